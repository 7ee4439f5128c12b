# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How the machine reaches the network, for a root that has none of its settings: mirror, proxies, certificates, pip.

Everything is read when it is needed, from apt, pip and the environment; nothing of it is written down here.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vm.kernels.catalogue import load_catalogue
from vm.kernels.sources import addresses

if TYPE_CHECKING:
    from collections.abc import Mapping

CERTIFICATES = "/usr/local/share/certificates.pem"
"""The place in a root of this machine's certificates. Not under /etc/ssl, which packages of the root write to."""

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT")
"""Variables that name a file of certificates: OpenSSL's, and those of requests, curl, git and pip."""

_OF_APT = re.compile(r"Acquire::(?:https?::\S+|Check-Valid-Until|Check-Date|Retries)")
"""Settings of apt that say how a mirror is reached (apt.conf(5), apt-transport-http(1), apt-transport-https(1))."""

_OF_PIP = ("index-url", "extra-index-url", "find-links", "proxy", "trusted-host", "timeout", "default-timeout")
_ADDRESSES = ("index-url", "extra-index-url", "find-links")
"""Settings of pip whose words may be directories of this machine, which a root does not have."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a root needs to reach the same mirrors as this machine."""

    mirror: str  # the address of Debian's archive
    security: str  # the address of its security archive
    apt: tuple[str, ...]  # lines of apt.conf, as this machine has them
    variables: Mapping[str, str]  # the environment of every command in a root
    certificates: Path | None  # to be copied to CERTIFICATES

    @property
    def apt_in_root(self) -> str:
        """Return the apt.conf of a root: the lines of this machine, with the certificates where the root has them."""
        lines = [line for line in self.apt if "::CaInfo " not in line]
        if self.certificates is not None:
            lines.append(f'Acquire::https::CaInfo "{CERTIFICATES}";')
        return "".join(f"{line}\n" for line in lines)


def this_network(*, mirror: str | None = None) -> Network:
    """Read this machine's settings; `mirror` replaces the one of its apt sources.

    Raises MissingToolError without apt, MirrorError where its sources name no mirror of Debian.
    """
    debian = next(series.origin for series in load_catalogue().series.values() if series.origin.name == "Debian")
    main, security = addresses(debian, mirror=mirror)
    pip = pip_settings(_said(sys.executable, "-m", "pip", "config", "list"))
    apt = apt_settings(_said("apt-config", "dump"))
    bundle = certificates(pip, apt, os.environ)
    return Network(mirror=main, security=security, apt=apt, variables=variables(pip, bundle), certificates=bundle)


def apt_settings(dump: str) -> tuple[str, ...]:
    """Return the lines of `apt-config dump` that say how a mirror is reached."""
    lines = (line for line in dump.splitlines() if not line.endswith(' "";'))
    return tuple(line for line in lines if _OF_APT.fullmatch(line.partition(" ")[0]))


def pip_settings(listed: str) -> dict[str, str]:
    """Return the settings in the output of `pip config list`, the environment's last: it has precedence."""
    found = re.findall(r"^(\S+)\.([\w-]+)=('.*'|\".*\")$", listed, re.MULTILINE)
    order = sorted(found, key=lambda setting: setting[0] == ":env:")
    return {name: str(ast.literal_eval(value)) for _, name, value in order}


def certificates(pip: Mapping[str, str], apt: tuple[str, ...], environment: Mapping[str, str]) -> Path | None:
    """Return the file of certificates that this machine was told to use, None when it uses the defaults."""
    told = [environment.get(name) for name in _CERTIFICATES]
    told.append(pip.get("cert"))
    told += [line.split('"')[1] for line in apt if line.startswith("Acquire::https::CaInfo ")]
    return next((Path(path) for path in told if path and Path(path).is_file()), None)


def variables(pip: Mapping[str, str], bundle: Path | None) -> dict[str, str]:
    """Return the environment of commands in a root: proxies, certificates and pip's settings."""
    names = [*_PROXIES, *(name.upper() for name in _PROXIES)]
    found = {name: os.environ[name] for name in names if os.environ.get(name)}
    if bundle is not None:
        found |= dict.fromkeys(_CERTIFICATES, CERTIFICATES)
    for name in _OF_PIP:
        words = pip.get(name, "").split()
        if name in _ADDRESSES:
            words = [word for word in words if re.match(r"https?://", word)]
        if words:
            found[f"PIP_{name.upper().replace('-', '_')}"] = " ".join(words)
    return found


def _said(program: str, *arguments: str) -> str:
    """Return what a program prints, "" where it is not installed: a machine without apt has no settings of apt."""
    if shutil.which(program) is None:
        return ""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace", check=False)
    return done.stdout
