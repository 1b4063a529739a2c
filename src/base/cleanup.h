/* SPDX-License-Identifier: MIT */
/*
 * Resources that let go by themselves when their scope ends (hosted code).
 *
 * A function that hands its resource on says so with steal_fd() or
 * steal_pointer().
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_pointer(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_unlock(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

#define cleanup_free __attribute__((cleanup(cleanup_free_pointer)))
#define cleanup_fd __attribute__((cleanup(cleanup_close_fd)))

/* Holds @mutex until the enclosing scope ends. */
#define scoped_lock(mutex)                                                     \
	__attribute__((cleanup(cleanup_unlock), unused)) pthread_mutex_t       \
		*scoped_lock_ = (pthread_mutex_lock(mutex), (mutex))

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#define steal_pointer(p)                                                       \
	({                                                                     \
		__auto_type stolen_ = *(p);                                    \
		*(p) = NULL;                                                   \
		stolen_;                                                       \
	})

#endif
