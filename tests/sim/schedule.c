// SPDX-License-Identifier: MIT
/*
 * One schedule: what a seed decides, who runs next, and time.
 *
 * First comes the chaos, a number of steps in which everything is drawn; then
 * the calm, in which everybody runs in turn and nothing happens that nobody
 * asked for, until all has come to an end.
 */
#include "sim.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "balloon/page_ranges.h"

#define NS_PER_MS 1000000ull
#define STACK_BYTES (64u << 10)
#define STEPS_MOST 400000u /* a schedule that is longer does not end */

struct world world;
struct tally tally;

static uint8_t stack[STACK_BYTES] __attribute__((aligned(64)));

static const char *const actor_names[ACTORS] = {
	"source", "destination", "device 0", "device 1", "user", "interrupt",
	"handler", "worker", "adjust", "boot", "allocator",
};

const struct balloon_protocol *const sim_protocols[PROTOCOLS] = {
	&balloon_protocol_standard,
	&balloon_protocol_command_register,
	&balloon_protocol_v17,
};

unsigned int draw(unsigned int n)
{
	if (world.calm)
		return 0;
	return (uint32_t)(random_next(&world.random) >> 32) * (uint64_t)n >> 32;
}

void edge(void)
{
	if (!world.calm && coroutine_now && !draw(world.setup.edges))
		coroutine_yield();
}

void trace_line(const char *format, ...)
{
	va_list args;

	printf("%6llu %10.3f  ", (unsigned long long)world.step,
	       (double)world.now / NS_PER_MS);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

/* ------------------------------------------- what the real code calls --- */

int clock_gettime(clockid_t clock, struct timespec *now)
{
	edge();
	now->tv_sec = world.now / 1000000000u;
	now->tv_nsec = world.now % 1000000000u;
	return 0;
}

int pthread_mutex_init(pthread_mutex_t *mutex,
		       const pthread_mutexattr_t *attributes)
{
	memset(mutex, 0, sizeof(*mutex));
	return 0;
}

static bool is_unlocked(void *of)
{
	return !*(int *)of;
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	while (!is_unlocked(mutex))
		coroutine_wait(is_unlocked, mutex, NEVER);
	*(int *)mutex = 1;
	return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	*(int *)mutex = 0;
	return 0;
}

/* ---------------------------------------------------------------- setup --- */

static unsigned int below(struct random *random, unsigned int n)
{
	return (uint32_t)(random_next(random) >> 32) * (uint64_t)n >> 32;
}

static bool one_in(struct random *random, unsigned int n)
{
	return !below(random, n);
}

static void draw_features(struct random *random, struct setup *setup)
{
	setup->offered = 0;
	if (one_in(random, 2))
		setup->offered |= 1ull << VIRTIO_BALLOON_F_STATS_VQ;
	if (one_in(random, 2))
		setup->offered |= 1ull << VIRTIO_BALLOON_F_REPORTING;
	if (one_in(random, 3))
		setup->offered |= 1ull << BALLOON_F_PAGE_RANGES;
	setup->wanted = setup->offered | 1ull << VIRTIO_F_VERSION_1 |
			1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT |
			1ull << BALLOON_F_COMMAND_REGISTER |
			1ull << BALLOON_F_V17;
	if (one_in(random, 2))
		setup->wanted |= 1ull << VIRTIO_RING_F_EVENT_IDX;
	if (one_in(random, 2))
		setup->wanted |= 1ull << VIRTIO_BALLOON_F_MUST_TELL_HOST;
}

/* The one that shows how it is not to be done is drawn less often. */
static unsigned int draw_protocol(struct random *random)
{
	unsigned int die = below(random, 12);

	return die < 2 ? 2 : die % 2;
}

static void draw_setup(struct random *random, int protocol)
{
	struct setup *setup = &world.setup;

	setup->protocol = draw_protocol(random);
	if (protocol >= 0)
		setup->protocol = protocol;
	setup->ring_size = 4u << below(random, 3);
	draw_features(random, setup);
	setup->initially_set = !one_in(random, 4);
	setup->manual_clear = setup->initially_set || one_in(random, 2);
	setup->memfd[0] = one_in(random, 2);
	setup->memfd[1] = one_in(random, 2);
	setup->zeroes = one_in(random, 8);
	setup->discards_fail = one_in(random, 8);
	setup->room = 1024u << below(random, 5);
	setup->pages = 18 + below(random, RAM_PAGES - FRAME_FIRST - 18 + 1);
	setup->batch = 1 + below(random, 4);
	setup->taking = 8 + below(random, 72);
	setup->chaos = 150 + below(random, one_in(random, 8) ? 3000 : 700);
	setup->dirtied = below(random, 4);
	setup->edges = 1 + below(random, 6);
	setup->trouble = one_in(random, 2) ? 0 : 1 + below(random, 8);
	setup->moves = 1 + below(random, 3);
	setup->block = one_in(random, 3) ? 0 : 2u << below(random, 2);
	setup->held_most = 1 + below(random, 16);
	setup->held_ns = one_in(random, 3) ? NEVER :
					     1000ull << below(random, 12);
}

/* Some are quick and some very slow, anew for each seed. */
static void draw_slots(struct random *random)
{
	static const uint8_t usual[ACTORS] = { 8, 8, 4, 4, 2, 3,
					       4, 6, 3, 2, 6 };
	unsigned int weight[ACTORS], sum = 0, slot, actor, upto;

	for (actor = 0; actor < ACTORS; actor++) {
		weight[actor] = 1 + (usual[actor] * 8 >> below(random, 6));
		sum += weight[actor];
	}
	for (slot = 0, actor = 0, upto = weight[0]; slot < 256; slot++) {
		while (slot * sum >= upto * 256)
			upto += weight[++actor];
		world.slot[slot] = actor;
	}
}

static void draw_pages(struct random *random)
{
	struct guest *guest = &world.guest;
	unsigned int left = world.setup.pages, n;
	unsigned int from = RAM_PAGES - FRAME_FIRST;

	for (n = FRAME_FIRST; n < RAM_PAGES; n++, from--) {
		if (below(random, from) >= left)
			continue;
		left--;
		guest->usable[guest->usables++] = ram_frame(n);
		guest->page[ram_frame(n)].usable = true;
	}
	/* What the balloon can be asked for must fit beside it. */
	guest->live_most = 2 + below(random, guest->usables - 12);
}

static void begin(uint64_t seed, uint64_t limit, enum fault fault, int protocol,
		  bool tracing)
{
	struct random random = { seed ^ 0x5851f42d4c957f2dull };
	unsigned int i;

	page_sets_reset();
	model_reset();
	memset(&world.guest, 0, sizeof(world.guest));
	for (i = 0; i < 2; i++) {
		memset(&world.host[i].memory, 0, sizeof(struct guest_memory));
		world.host[i].scratch.words = NULL;
		world.host[i].inside.words = NULL;
		world.host[i].held.words = NULL;
		world.host[i].name = i;
		world.host[i].state = HOST_NONE;
		world.host[i].device.active = false;
		world.host[i].cpus_run = false;
	}
	world.random.state = seed;
	world.seed = seed;
	world.limit = limit;
	world.fault = fault;
	world.now = NS_PER_MS;
	world.step = 0;
	world.calm = false;
	world.trace = tracing;
	world.failed = NULL;
	world.moving = world.lost = false;
	world.moves = 0;
	world.target = 0;
	world.last_id = 0;
	world.last_actor = 0;
	world.source_thread.active = world.destination_thread.active = false;
	draw_setup(&random, protocol);
	draw_slots(&random);
	draw_pages(&random);
	if (world.setup.chaos > limit)
		world.setup.chaos = limit;
}

static void boot(void)
{
	world.here = &world.host[0];
	host_create(world.here, false);
	host_boot(world.here);
	world.here->state = HOST_RUNNING;
	world.here->quiet = false;
	world.here->cpus_run = true;
	coroutine_start(&world.user_thread, stack, STACK_BYTES, user_main,
			NULL);
}

/* -------------------------------------------------------- who runs next --- */

static struct coroutine *const threads[] = {
	&world.source_thread,	&world.destination_thread,
	&world.host[0].device,	&world.host[1].device,
	&world.user_thread,
};

static bool can_run(unsigned int actor)
{
	if (actor <= ACTOR_USER)
		return coroutine_runnable(threads[actor], world.now);
	if (!world.here->cpus_run)
		return false;
	switch (actor) {
	case ACTOR_INTERRUPT:
		return driver_interrupts();
	case ACTOR_HANDLER:
		return handler_can_step();
	case ACTOR_WORKER:
		return worker_can_step();
	case ACTOR_ADJUST:
		return adjust_can_step();
	case ACTOR_BOOT:
		return driver_can_step();
	default:
		return !world.calm;
	}
}

static void run(unsigned int actor)
{
	if (actor <= ACTOR_USER) {
		coroutine_resume(threads[actor]);
		return;
	}
	switch (actor) {
	case ACTOR_INTERRUPT:
		driver_interrupt();
		break;
	case ACTOR_HANDLER:
		handler_step();
		break;
	case ACTOR_WORKER:
		worker_step();
		break;
	case ACTOR_ADJUST:
		adjust_step();
		break;
	case ACTOR_BOOT:
		driver_boot_step();
		break;
	case ACTOR_ALLOCATOR:
		guest_allocator();
		break;
	}
}

bool others_idle(void *unused)
{
	unsigned int actor;

	for (actor = 0; actor < ACTORS; actor++)
		if (actor != ACTOR_USER && can_run(actor))
			return false;
	return true;
}

/* Everybody in turn. Return: false when nobody can go on */
static bool run_next(void)
{
	unsigned int i, actor = world.last_actor;

	for (i = 0; i < ACTORS; i++) {
		actor = actor + 1 < ACTORS ? actor + 1 : 0;
		if (!can_run(actor))
			continue;
		world.last_actor = actor;
		run(actor);
		return true;
	}
	return false;
}

/* Nobody can go on: until the first of those who wait has waited enough. */
static void pass_time(void)
{
	uint64_t until = NEVER;
	unsigned int i;

	for (i = 0; i <= ACTOR_USER; i++)
		if (threads[i]->active && threads[i]->deadline < until)
			until = threads[i]->deadline;
	if (world.link.stalled_until > world.now &&
	    world.link.stalled_until < until)
		until = world.link.stalled_until;
	if (until == NEVER)
		fail("deadlock", "nobody can go on");
	else
		world.now = until;
}

static void random_step(void)
{
	uint64_t bits = random_next(&world.random);
	unsigned int tries, actor;

	/* Time goes by, now and then much of it. */
	world.now += 1000 + (bits & 0xffff);
	if (!(bits >> 16 & 511))
		world.now += (bits >> 25 & 2047) * NS_PER_MS;
	bits >>= 40;
	for (tries = 0; tries < 3; tries++, bits >>= 8) {
		actor = world.slot[bits & 255];
		if (!can_run(actor))
			continue;
		run(actor);
		return;
	}
	if (!run_next())
		pass_time();
}

bool schedule_run(uint64_t seed, uint64_t limit, enum fault fault,
		  int protocol, bool tracing)
{
	begin(seed, limit, fault, protocol, tracing);
	boot();
	while (!world.failed && world.user_thread.active &&
	       world.step < world.setup.chaos) {
		world.step++;
		random_step();
	}
	world.calm = true;
	trace("calm");
	while (!world.failed && world.user_thread.active) {
		world.now += 10000;
		if (!run_next())
			pass_time();
		if (++world.step > STEPS_MOST)
			fail("end", "no end after %u steps, %s ran last",
			     STEPS_MOST, actor_names[world.last_actor]);
	}
	tally.schedules++;
	tally.steps += world.step;
	tally.by_protocol[world.setup.protocol]++;
	return !world.failed;
}
