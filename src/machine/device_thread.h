/* SPDX-License-Identifier: MIT */
/*
 * The thread that serves the devices' queues. It owns all device state that
 * is not a register; others talk to it by calls (which wait for it) and posts
 * (which do not). It never waits for the guest.
 */
#ifndef MACHINE_DEVICE_THREAD_H
#define MACHINE_DEVICE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define DEVICE_THREAD_QUEUES 8

struct device_thread_ops {
	/* device_thread_post() was called, once or more. */
	void (*posted)(void *owner);
	/* Queue @queue was kicked. Return: true to be called again soon */
	bool (*kicked)(void *owner, unsigned int queue);
	/* The time of device_thread_set_deadline() has come. */
	void (*expired)(void *owner);
};

struct device_call;

struct device_thread {
	pthread_t thread;
	bool started;
	int epoll_fd, wake_fd;
	int kick_fd[DEVICE_THREAD_QUEUES]; /* eventfds, by queue index */
	pthread_mutex_t lock;		   /* of the four below */
	pthread_cond_t called;
	struct device_call *calls;
	bool post, quit;
	bool quiet;	     /* device thread's own: kicks wait, and so
				does the deadline */
	unsigned int kicked; /* its own: bits of queues to look at */
	uint64_t kicks;	     /* its own: from the guest, of all queues */
	uint64_t deadline_ms; /* its own; 0: none */
	const struct device_thread_ops *ops;
	void *owner;
};

int device_thread_start(struct device_thread *thread,
			const struct device_thread_ops *ops, void *owner,
			struct error *err);
void device_thread_stop(struct device_thread *thread);

/* Run @function on the device thread and wait until it returned. */
void device_thread_call(struct device_thread *thread,
			void (*function)(void *argument), void *argument);

/* Have ops->posted() called soon. Never waits. */
void device_thread_post(struct device_thread *thread);

/* Kick a queue as its ioeventfd would. Never waits. */
void device_thread_kick(struct device_thread *thread, unsigned int queue);

/* On the thread itself: look at a queue soon, kicked or not. */
void device_thread_look(struct device_thread *thread, unsigned int queue);

/* On the thread itself: call ops->expired() once, when device_thread_now_ms()
 * has come so far; 0: not any more. A later call replaces an earlier one. */
void device_thread_set_deadline(struct device_thread *thread, uint64_t at_ms);
uint64_t device_thread_now_ms(void);
uint64_t device_thread_now_ns(void);

/* For a pause: let queues wait; and look at all of them when it ends. */
void device_thread_quiesce(struct device_thread *thread);
void device_thread_resume(struct device_thread *thread);

#endif
