// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A system whose uname(2) tells the release of the kernel that is installed there, not of the kernel that it shares
 * with this machine. No headers and no C library: the root has clang, and need not have more. x86-64.
 */

#ifndef RELEASE
#error "define RELEASE, the string that uname -r prints"
#endif

#define NR_UNAME 63
#define FIELD 65 /* bytes of each string of struct utsname, NUL included */

struct utsname {
	char sysname[FIELD], nodename[FIELD], release[FIELD], version[FIELD], machine[FIELD], domainname[FIELD];
};

_Static_assert(sizeof(RELEASE) <= FIELD, "a release that uname(2) cannot hold");

int uname(struct utsname *name)
{
	long answer;

	__asm__ volatile("syscall" : "=a"(answer) : "a"((long)NR_UNAME), "D"(name) : "rcx", "r11", "memory");
	if (answer < 0)
		return -1; /* EFAULT, the only error: errno is the C library's */
	for (unsigned int at = 0; at < sizeof(RELEASE); at++)
		name->release[at] = RELEASE[at];
	return 0;
}
