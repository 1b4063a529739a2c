// SPDX-License-Identifier: MIT
/* The thread that serves the devices' queues. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "machine/device_thread.h"

#define WAKE_INDEX DEVICE_THREAD_QUEUES

struct device_call {
	void (*function)(void *argument);
	void *argument;
	bool done;
	struct device_call *next;
};

static void ring(int fd)
{
	uint64_t one = 1;

	/* Full means rung already. */
	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Return: how often it was rung since the last time */
static uint64_t silence(int fd)
{
	uint64_t count = 0;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	return count;
}

/* Carries out what others asked for. Posts come first: a pause posts nothing
 * any more when it calls, and must find all that was posted before done.
 * Return: false when it is time to go */
static bool serve_calls(struct device_thread *thread)
{
	struct device_call *call;
	bool quit;

	pthread_mutex_lock(&thread->lock);
	while (thread->post || thread->calls) {
		if (thread->post) {
			thread->post = false;
			pthread_mutex_unlock(&thread->lock);
			thread->ops->posted(thread->owner);
			pthread_mutex_lock(&thread->lock);
			continue;
		}
		call = thread->calls;
		thread->calls = call->next;
		pthread_mutex_unlock(&thread->lock);
		call->function(call->argument);
		pthread_mutex_lock(&thread->lock);
		call->done = true;
		pthread_cond_broadcast(&thread->called);
	}
	quit = thread->quit;
	pthread_mutex_unlock(&thread->lock);
	return !quit;
}

static void serve_kicks(struct device_thread *thread)
{
	unsigned int queue, bits = thread->kicked;

	thread->kicked = 0;
	for (queue = 0; queue < DEVICE_THREAD_QUEUES; queue++)
		if (bits & 1u << queue &&
		    thread->ops->kicked(thread->owner, queue))
			thread->kicked |= 1u << queue;
}

uint64_t device_thread_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

uint64_t device_thread_now_ms(void)
{
	return device_thread_now_ns() / 1000000;
}

void device_thread_set_deadline(struct device_thread *thread, uint64_t at_ms)
{
	thread->deadline_ms = at_ms;
}

static void serve_deadline(struct device_thread *thread)
{
	if (!thread->deadline_ms ||
	    device_thread_now_ms() < thread->deadline_ms)
		return;
	thread->deadline_ms = 0;
	thread->ops->expired(thread->owner);
}

/* How long there is nothing to do, in milliseconds; -1: for ever. */
static int idle_time(const struct device_thread *thread)
{
	uint64_t now;

	if (thread->quiet)
		return -1;
	if (thread->kicked)
		return 0;
	if (!thread->deadline_ms)
		return -1;
	now = device_thread_now_ms();
	return now < thread->deadline_ms ? (int)(thread->deadline_ms - now) : 0;
}

/* Waits for events and notes them. */
static void gather(struct device_thread *thread)
{
	struct epoll_event event[DEVICE_THREAD_QUEUES + 1];
	int i, count;

	count = epoll_wait(thread->epoll_fd, event, DEVICE_THREAD_QUEUES + 1,
			   idle_time(thread));
	for (i = 0; i < count; i++) {
		unsigned int index = event[i].data.u32;

		if (index == WAKE_INDEX) {
			silence(thread->wake_fd);
			continue;
		}
		thread->kicks += silence(thread->kick_fd[index]);
		thread->kicked |= 1u << index;
	}
}

static void *device_thread_main(void *argument)
{
	struct device_thread *thread = argument;

	pthread_setname_np(pthread_self(), "device");
	while (serve_calls(thread)) {
		if (!thread->quiet) {
			serve_kicks(thread);
			serve_deadline(thread);
		}
		gather(thread);
	}
	return NULL;
}

static int add_fd(struct device_thread *thread, int *fd, unsigned int index)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = index };

	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (*fd < 0)
		return -1;
	return epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, *fd, &event);
}

static int open_fds(struct device_thread *thread)
{
	unsigned int i;

	thread->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (thread->epoll_fd < 0 ||
	    add_fd(thread, &thread->wake_fd, WAKE_INDEX) < 0)
		return -1;
	for (i = 0; i < DEVICE_THREAD_QUEUES; i++)
		if (add_fd(thread, &thread->kick_fd[i], i) < 0)
			return -1;
	return 0;
}

int device_thread_start(struct device_thread *thread,
			const struct device_thread_ops *ops, void *owner,
			struct error *err)
{
	int rc;

	memset(thread, 0, sizeof(*thread));
	memset(thread->kick_fd, -1, sizeof(thread->kick_fd));
	thread->epoll_fd = thread->wake_fd = -1;
	thread->ops = ops;
	thread->owner = owner;
	pthread_mutex_init(&thread->lock, NULL);
	pthread_cond_init(&thread->called, NULL);
	if (open_fds(thread) < 0) {
		rc = errno;
		device_thread_stop(thread);
		return error_set_errno(err, rc, "events of the device thread");
	}
	rc = pthread_create(&thread->thread, NULL, device_thread_main, thread);
	if (rc) {
		device_thread_stop(thread);
		return error_set_errno(err, rc, "device thread");
	}
	thread->started = true;
	return 0;
}

void device_thread_stop(struct device_thread *thread)
{
	unsigned int i;

	if (thread->started) {
		pthread_mutex_lock(&thread->lock);
		thread->quit = true;
		pthread_mutex_unlock(&thread->lock);
		ring(thread->wake_fd);
		pthread_join(thread->thread, NULL);
		thread->started = false;
	}
	for (i = 0; i < DEVICE_THREAD_QUEUES; i++)
		if (thread->kick_fd[i] >= 0)
			close(thread->kick_fd[i]);
	if (thread->wake_fd >= 0)
		close(thread->wake_fd);
	if (thread->epoll_fd >= 0)
		close(thread->epoll_fd);
	memset(thread->kick_fd, -1, sizeof(thread->kick_fd));
	thread->epoll_fd = thread->wake_fd = -1;
}

void device_thread_call(struct device_thread *thread,
			void (*function)(void *argument), void *argument)
{
	struct device_call call = { .function = function,
				    .argument = argument };
	struct device_call **last;

	pthread_mutex_lock(&thread->lock);
	for (last = &thread->calls; *last; last = &(*last)->next)
		;
	*last = &call;
	ring(thread->wake_fd);
	while (!call.done)
		pthread_cond_wait(&thread->called, &thread->lock);
	pthread_mutex_unlock(&thread->lock);
}

void device_thread_post(struct device_thread *thread)
{
	pthread_mutex_lock(&thread->lock);
	thread->post = true;
	pthread_mutex_unlock(&thread->lock);
	ring(thread->wake_fd);
}

void device_thread_kick(struct device_thread *thread, unsigned int queue)
{
	if (queue < DEVICE_THREAD_QUEUES)
		ring(thread->kick_fd[queue]);
}

void device_thread_look(struct device_thread *thread, unsigned int queue)
{
	if (queue < DEVICE_THREAD_QUEUES)
		thread->kicked |= 1u << queue;
}

static void go_quiet(void *argument)
{
	struct device_thread *thread = argument;

	thread->quiet = true;
}

static void go_on(void *argument)
{
	struct device_thread *thread = argument;

	thread->quiet = false;
	thread->kicked = (1u << DEVICE_THREAD_QUEUES) - 1;
}

void device_thread_quiesce(struct device_thread *thread)
{
	device_thread_call(thread, go_quiet, thread);
}

void device_thread_resume(struct device_thread *thread)
{
	device_thread_call(thread, go_on, thread);
}
