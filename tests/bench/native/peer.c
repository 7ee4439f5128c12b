// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Run the kernel's own test_select_reuseport, whose file is compiled as it is beside this one, in a network namespace.
 *
 * It waits once for each delivery, by epoll_wait(2): --wrap counts them. Prints the deliveries and the failed checks.
 */
#define _GNU_SOURCE
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

void serial_test_select_reuseport(void);
int __real_epoll_wait(int fd, struct epoll_event *events, int most, int timeout);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int most, int timeout);
bool test__start_subtest(const char *name);
void test__fail(void);
void test__skip(void);

static unsigned int deliveries, failed;

int __wrap_epoll_wait(int fd, struct epoll_event *events, int most, int timeout)
{
	deliveries++;
	return __real_epoll_wait(fd, events, most, timeout);
}

bool test__start_subtest(const char *name)
{
	(void)name;
	return true;
}

void test__fail(void)
{
	failed++;
}

void test__skip(void)
{
}

static int set_loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), error;

	error = ioctl(fd, SIOCSIFFLAGS, &request);
	close(fd);
	return error;
}

int main(void)
{
	if (unshare(CLONE_NEWNET) || set_loopback_up()) {
		perror("a network namespace");
		return 2;
	}
	serial_test_select_reuseport();
	printf("\ndeliveries %u failed %u\n", deliveries, failed);
	return failed != 0;
}
