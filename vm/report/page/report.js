// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The matrix: draws the value in #data (vm/report/page_data.py), filters it, and keeps the view in the address.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const body = $("cells").tBodies[0], head = $("cells").tHead.rows[0];
  const letters = data.order.split("").filter((letter) => data.outcomes.some((row) => row.includes(letter)));
  const everyone = data.kernels.map((_, number) => number);
  const MOST = 400; // cases that a search opens by itself

  // What a search looks through, in lower case.
  const texts = data.cases.map(([promise, name], at) => {
    const [topic, id, words, functions, bugs] = data.promises[promise];
    const reasons = data.reasons.map((of) => (of[at] === undefined ? "" : data.words[of[at]]));
    return [data.topics[topic], id, words, ...functions, ...bugs, name, ...new Set(reasons)].join("\n").toLowerCase();
  });
  const casesOf = data.promises.map(() => []);
  data.cases.forEach(([promise], at) => casesOf[promise].push(at));
  const promisesOf = data.topics.map(() => []);
  data.promises.forEach(([topic], at) => promisesOf[topic].push(at));

  let view, shown;

  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    const list = (name) => (given.get(name) || "").split(",").filter(Boolean);
    const named = Object.entries(data.names);
    return {
      query: given.get("find") || "",
      outcomes: new Set(list("outcome").map((word) => (named.find(([, name]) => name === word) || [])[0]).filter(Boolean)),
      kernels: new Set(given.getAll("kernel").map((name) => data.kernels.indexOf(name)).filter((at) => at >= 0)),
      different: given.has("different"),
      times: given.has("seconds"),
      open: new Set(given.getAll("open")),
      closed: new Set(given.getAll("closed")),
      detail: given.get("case") || "",
    };
  }

  function write() {
    const now = new URLSearchParams();
    if (view.query) now.set("find", view.query);
    if (view.outcomes.size) now.set("outcome", [...view.outcomes].map((letter) => data.names[letter]).join(","));
    for (const at of view.kernels) now.append("kernel", data.kernels[at]);
    if (view.different) now.set("different", "1");
    if (view.times) now.set("seconds", "1");
    for (const key of view.open) now.append("open", key);
    for (const key of view.closed) now.append("closed", key);
    if (view.detail) now.set("case", view.detail);
    history.replaceState(null, "", now.toString() ? "#" + now : location.pathname + location.search);
  }

  function matching() {
    const columns = view.kernels.size ? everyone.filter((at) => view.kernels.has(at)) : everyone;
    const words = view.query.toLowerCase().split(/\s+/).filter(Boolean);
    const cases = [];
    for (let at = 0; at < data.cases.length; at++) {
      if (!words.every((word) => texts[at].includes(word))) continue;
      const found = columns.map((kernel) => data.outcomes[kernel][at]);
      if (view.outcomes.size && !found.some((letter) => view.outcomes.has(letter))) continue;
      if (view.different && found.every((letter) => letter === found[0])) continue;
      cases.push(at);
    }
    return { columns, cases, set: new Set(cases) };
  }

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function cell(kernel, cases, many) {
    const counts = {};
    let time = 0;
    for (const at of cases) {
      const letter = data.outcomes[kernel][at];
      if (letter === ".") continue;
      counts[letter] = (counts[letter] || 0) + 1;
      time += data.times[kernel][at];
    }
    const found = data.order.split("").filter((letter) => counts[letter]);
    if (!found.length) return element("td", { class: "absent", title: "the kernel has no such case" }, "–");
    const words = found.map((letter) => `${counts[letter]} ${data.names[letter]}`);
    const made = element("td", { class: data.classes[found[0]], title: `${data.kernels[kernel]}: ${words.join(", ")}` });
    if (view.times) made.append(element("span", {}, (time / 100).toFixed(time < 1000 ? 2 : 0) + " s"));
    else if (!many) made.append(element("span", {}, data.names[found[0]]));
    else for (const letter of found) made.append(element("span", {}, letter === "P" ? String(counts.P) : `${counts[letter]} ${data.names[letter]}`));
    return made;
  }

  function row(level, key, title, note, cases, opens) {
    const made = element("tr", { "data-level": level, "data-key": key, tabindex: "-1" });
    const name = element("th", { scope: "row" }, title);
    if (note) name.append(" ", element("span", { class: "dim" }, note));
    made.append(name, ...shown.columns.map((kernel) => cell(kernel, cases, opens)));
    if (opens) {
      made.classList.add("opens");
      made.setAttribute("aria-expanded", String(isOpen(key)));
    }
    return made;
  }

  // A filter that leaves few cases shows them all, but for the rows that were closed by hand.
  const opensAll = () => Boolean(view.query || view.outcomes.size || view.different) && shown.cases.length <= MOST;
  const isOpen = (key) => (opensAll() ? !view.closed.has(key) : view.open.has(key));

  function label(at) {
    const name = data.cases[at][1].split("::").slice(1).join("::") || data.cases[at][1];
    const functions = data.promises[data.cases[at][0]][3];
    const open = name.indexOf("[");
    return functions.length === 1 && open > 0 ? name.slice(open + 1, -1) : name;
  }

  function detail(at) {
    const [promise, name] = data.cases[at];
    const [, id, words, , bugs] = data.promises[promise];
    const list = element("dl");
    const say = (term, ...what) => list.append(element("dt", {}, term), element("dd", {}, ...what));
    say("case", element("code", {}, name));
    if (words) say("promise", words + " ", element("code", { class: "dim" }, id));
    if (bugs.length) say("known bugs", bugs.join(", "));
    for (const kernel of shown.columns) {
      const letter = data.outcomes[kernel][at];
      if (letter === ".") { say(data.kernels[kernel], "no such case"); continue; }
      const reason = data.reasons[kernel][at];
      const parts = [element("span", { class: "badge " + data.classes[letter] }, data.names[letter]), ` ${(data.times[kernel][at] / 100).toFixed(2)} s `];
      if (reason !== undefined) parts.push(data.words[reason], " ");
      const anchor = data.anchors[kernel][at];
      if (anchor) parts.push(element("a", { href: "#" + anchor }, "in full"));
      say(data.kernels[kernel], ...parts);
    }
    return element("tr", { class: "detail" }, element("td", { colspan: shown.columns.length + 1 }, list));
  }

  function draw() {
    const at = document.activeElement && document.activeElement.closest ? document.activeElement.closest("tr[data-key]") : null;
    const focused = at && at.dataset.key;
    shown = matching();
    head.replaceChildren(element("th", { scope: "col" }, "topic"), ...shown.columns.map((kernel) => element("th", { scope: "col" }, data.kernels[kernel])));
    const rows = [];
    const left = (cases) => cases.filter((at) => shown.set.has(at));
    data.topics.forEach((topic, number) => {
      const promises = promisesOf[number].map((promise) => [promise, left(casesOf[promise])]).filter(([, cases]) => cases.length);
      if (!promises.length) return;
      const key = topic;
      rows.push(row(1, key, topic, "", promises.flatMap(([, cases]) => cases), true));
      if (!isOpen(key)) return;
      for (const [promise, cases] of promises) {
        const [, id, words] = data.promises[promise];
        const inner = `${topic}/${id}`;
        rows.push(row(2, inner, words || id, words ? id : "", cases, true));
        if (!isOpen(inner)) continue;
        for (const each of cases) {
          const name = data.cases[each][1];
          rows.push(row(3, name, label(each), "", [each], false));
          if (view.detail === name) rows.push(detail(each));
        }
      }
    });
    body.replaceChildren(...rows);
    const first = body.querySelector("tr[data-key]");
    const again = focused && [...body.rows].find((each) => each.dataset.key === focused);
    if (again || first) (again || first).tabIndex = 0;
    if (again) again.focus();
    $("shown").textContent = `${shown.cases.length} of ${data.cases.length} cases on ${shown.columns.length} of ${data.kernels.length} kernels`;
    for (const button of $("outcomes").children) button.setAttribute("aria-pressed", String(view.outcomes.has(button.dataset.letter)));
    for (const button of $("kernels").children) button.setAttribute("aria-pressed", String(view.kernels.has(Number(button.dataset.kernel))));
    $("different").setAttribute("aria-pressed", String(view.different));
    $("times").setAttribute("aria-pressed", String(view.times));
    if ($("query").value !== view.query) $("query").value = view.query;
  }

  function change() {
    write();
    draw();
  }

  const flip = (set, value) => (set.has(value) ? set.delete(value) : set.add(value));

  function activate(chosen) {
    const key = chosen.dataset.key;
    if (chosen.dataset.level === "3") view.detail = view.detail === key ? "" : key;
    else flip(opensAll() ? view.closed : view.open, key);
    chosen.focus();
    change();
  }

  body.addEventListener("click", (event) => {
    const chosen = event.target.closest("tr[data-key]");
    if (chosen && !event.target.closest("a")) activate(chosen);
  });
  body.addEventListener("keydown", (event) => {
    const chosen = event.target.closest("tr[data-key]");
    if (!chosen || event.target.closest("a") || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = [...body.querySelectorAll("tr[data-key]")], place = all.indexOf(chosen);
    const open = chosen.getAttribute("aria-expanded");
    const move = (to) => { if (to) { chosen.tabIndex = -1; to.tabIndex = 0; to.focus(); } };
    if (event.key === "ArrowDown") move(all[place + 1]);
    else if (event.key === "ArrowUp") move(all[place - 1]);
    else if (event.key === "Home") move(all[0]);
    else if (event.key === "End") move(all[all.length - 1]);
    else if (event.key === "Enter" || event.key === " ") activate(chosen);
    else if (event.key === "ArrowRight" && open === "false") activate(chosen);
    else if (event.key === "ArrowLeft" && open === "true") activate(chosen);
    else if (event.key === "ArrowLeft") move(all.slice(0, place).reverse().find((each) => each.dataset.level < chosen.dataset.level));
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      $("query").focus();
    }
    if (event.key === "Escape" && event.target === $("query")) {
      view.query = "";
      change();
    }
  });

  let waiting;
  $("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { view.query = $("query").value; change(); }, 120);
  });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  const button = (parent, name, attributes, act) => {
    const made = element("button", { type: "button", "aria-pressed": "false", ...attributes }, ...name);
    made.addEventListener("click", () => { act(); change(); });
    parent.append(made);
  };
  for (const letter of letters) button($("outcomes"), [element("span", { class: "swatch " + data.classes[letter] }), data.names[letter]], { "data-letter": letter }, () => flip(view.outcomes, letter));
  if (data.kernels.length > 1) data.kernels.forEach((name, at) => button($("kernels"), [name], { "data-kernel": at }, () => flip(view.kernels, at)));
  else $("different").hidden = true;
  $("different").addEventListener("click", () => { view.different = !view.different; change(); });
  $("times").addEventListener("click", () => { view.times = !view.times; change(); });
  $("reset").addEventListener("click", () => { history.replaceState(null, "", location.pathname + location.search); view = read(); draw(); });

  function follow() {
    const hash = decodeURIComponent(location.hash.slice(1));
    const target = hash && !hash.includes("=") ? $(hash) : null;
    if (target) {
      for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
      target.scrollIntoView();
      return false;
    }
    return true;
  }
  window.addEventListener("hashchange", () => { if (follow()) { view = read(); draw(); } });

  view = read();
  $("controls").hidden = false;
  draw();
  follow();
})();
