// SPDX-License-Identifier: MIT
/* Memory brought into being before its content comes, see ahead.h. */
#include "migration/ahead.h"

#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "memory/backing.h"

void ahead_init(struct ahead *ahead)
{
	memset(ahead, 0, sizeof(*ahead));
	pthread_mutex_init(&ahead->lock, NULL);
	pthread_cond_init(&ahead->more, NULL);
}

/* Wait for a run. Return: false when there will be no more */
static bool take(struct ahead *ahead, struct page_run *run)
{
	scoped_lock(&ahead->lock);
	while (!ahead->stop && ahead->taken == ahead->announced)
		pthread_cond_wait(&ahead->more, &ahead->lock);
	if (ahead->stop)
		return false;
	*run = ahead->run[ahead->taken++ % AHEAD_RUNS];
	return true;
}

static void *work(void *of)
{
	struct ahead *ahead = of;
	struct page_run run;

	pthread_setname_np(pthread_self(), "ahead");
	while (take(ahead, &run)) {
		backing_allow_huge(ahead->memory, run);
		/* Where it fails, the read finds out by itself. */
		backing_populate(ahead->memory, run);
	}
	return NULL;
}

/* Of one memory, which the thread finds when it begins. */
static bool have_thread(struct ahead *ahead, const struct guest_memory *memory)
{
	if (ahead->started || ahead->cannot)
		return ahead->started;
	ahead->memory = memory;
	/* On one CPU it would only take turns with the reader. */
	ahead->started = sysconf(_SC_NPROCESSORS_ONLN) > 1 &&
			 !pthread_create(&ahead->thread, NULL, work, ahead);
	ahead->cannot = !ahead->started;
	return ahead->started;
}

void ahead_announce(struct ahead *ahead, const struct guest_memory *memory,
		    struct page_run run)
{
	if (!have_thread(ahead, memory))
		return;
	scoped_lock(&ahead->lock);
	if (ahead->announced - ahead->arrived == AHEAD_RUNS)
		return;
	ahead->run[ahead->announced++ % AHEAD_RUNS] = run;
	if (ahead->announced == ahead->taken + 1)
		pthread_cond_signal(&ahead->more);
}

bool ahead_arrives(struct ahead *ahead, struct page_run run)
{
	const struct page_run *next;
	bool made;

	if (!ahead->started)
		return false;
	scoped_lock(&ahead->lock);
	next = &ahead->run[ahead->arrived % AHEAD_RUNS];
	if (ahead->arrived == ahead->announced || next->first != run.first ||
	    next->count != run.count)
		return false;
	made = ahead->arrived++ < ahead->taken;
	/* What is here already, the thread need not make. */
	if (!made)
		ahead->taken++;
	return made;
}

void ahead_stop(struct ahead *ahead)
{
	if (ahead->started) {
		pthread_mutex_lock(&ahead->lock);
		ahead->stop = true;
		pthread_cond_signal(&ahead->more);
		pthread_mutex_unlock(&ahead->lock);
		pthread_join(ahead->thread, NULL);
	}
	ahead->started = false;
	pthread_cond_destroy(&ahead->more);
	pthread_mutex_destroy(&ahead->lock);
}
