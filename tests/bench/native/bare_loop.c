// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Send frames and receive their payloads, and do nothing else: what a checked packet is measured against.
 *
 *   bare_loop single|batch LINK FRAMES LENGTH REPEATS MEMBER...
 *
 * LINK and MEMBER are descriptors of sockets that are open already. FRAMES is a file of frames of LENGTH bytes each.
 * With "single", member N modulo their number receives frame N. All frames are sent REPEATS times; it prints the seconds
 * that a frame took in the median of these.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define AT_ONCE 128
#define ROOM 2048
#define LOST_SECONDS 10

static char *frames;
static size_t length, count, members;
static int link_fd, *member;
static struct mmsghdr out[AT_ONCE], in[AT_ONCE];
static struct iovec out_part[AT_ONCE], in_part[AT_ONCE];
static char room[AT_ONCE][ROOM];

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static void stop(const char *what)
{
	perror(what);
	exit(1);
}

/* End the program if a frame that is on its way has not come for long; nothing else bounds the waiting. */
static void demand_soon(unsigned long *tries, double *until)
{
	if (++*tries % 100000)
		return;
	if (*until == 0)
		*until = now() + LOST_SECONDS;
	if (now() > *until) {
		fprintf(stderr, "a frame was lost\n");
		exit(1);
	}
}

static void single(void)
{
	unsigned long tries = 0;
	double until = 0;
	size_t at;

	for (at = 0; at < count; at++) {
		if (send(link_fd, frames + at * length, length, 0) < 0)
			stop("send");
		until = 0;
		while (recv(member[at % members], room[0], ROOM, MSG_DONTWAIT) < 0) {
			if (errno != EAGAIN)
				stop("recv");
			demand_soon(&tries, &until);
		}
	}
}

static void batch(void)
{
	size_t at, size, sent, received, which;
	unsigned long tries = 0;
	double until = 0;
	int done;

	for (at = 0; at < count; at += size) {
		size = count - at < AT_ONCE ? count - at : AT_ONCE;
		for (sent = 0; sent < size; sent++)
			out_part[sent].iov_base = frames + (at + sent) * length;
		for (sent = 0; sent < size; sent += done) {
			done = sendmmsg(link_fd, out + sent, size - sent, 0);
			if (done < 0)
				stop("sendmmsg");
		}
		until = 0;
		for (received = which = 0; received < size; which = (which + 1) % members) {
			done = recvmmsg(member[which], in, AT_ONCE, MSG_DONTWAIT, NULL);
			if (done < 0 && errno != EAGAIN)
				stop("recvmmsg");
			if (done > 0)
				received += done;
			else
				demand_soon(&tries, &until);
		}
	}
}

static int compare(const void *one, const void *other)
{
	double difference = *(const double *)one - *(const double *)other;

	return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
	unsigned long repeats, round;
	struct stat status;
	double *took;
	int fd, at;

	if (argc < 7) {
		fprintf(stderr, "usage: bare_loop single|batch LINK FRAMES LENGTH REPEATS MEMBER...\n");
		return 2;
	}
	link_fd = atoi(argv[2]);
	length = strtoul(argv[4], NULL, 10);
	repeats = strtoul(argv[5], NULL, 10);
	members = argc - 6;
	member = calloc(members, sizeof(*member));
	if (!member || !length || !repeats)
		stop("no members, frames or repeats");
	for (at = 6; at < argc; at++)
		member[at - 6] = atoi(argv[at]);
	fd = open(argv[3], O_RDONLY);
	if (fd < 0 || fstat(fd, &status))
		stop(argv[3]);
	frames = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (frames == MAP_FAILED)
		stop("mmap");
	count = status.st_size / length;
	for (at = 0; at < AT_ONCE; at++) {
		out_part[at].iov_len = length;
		out[at].msg_hdr = (struct msghdr){ .msg_iov = &out_part[at], .msg_iovlen = 1 };
		in_part[at] = (struct iovec){ .iov_base = room[at], .iov_len = ROOM };
		in[at].msg_hdr = (struct msghdr){ .msg_iov = &in_part[at], .msg_iovlen = 1 };
	}
	took = calloc(repeats, sizeof(*took));
	if (!took)
		stop("calloc");
	for (round = 0; round < repeats; round++) {
		took[round] = -now();
		if (strcmp(argv[1], "batch"))
			single();
		else
			batch();
		took[round] += now();
	}
	qsort(took, repeats, sizeof(*took), compare);
	printf("%.12f\n", took[repeats / 2] / count);
	return 0;
}
