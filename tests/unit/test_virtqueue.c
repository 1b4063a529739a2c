// SPDX-License-Identifier: MIT
/* The device half of a ring against its driver half, with a list as model. */
#include "unit.h"

#include <pthread.h>
#include <semaphore.h>

#include "base/endian.h"
#include "virtio/virtqueue.h"
#include "virtio/vring_driver.h"

#define MiB 0x100000ull
#define RING 0x2600ull /* the used ring of 256 entries spans two pages */
#define TABLES 0x40000ull /* indirect tables, TABLE_BYTES per token */
#define TABLE_BYTES 512ull
#define EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)
#define MAX_SEGMENTS 8

/* Both halves over one ring. */
struct fixture {
	struct guest_memory memory;
	struct vring_driver driver;
	struct virtqueue device;
	struct virtqueue_chain chain;
};

static void fixture_start(struct fixture *f, uint16_t size, uint64_t features,
			  uint16_t index)
{
	struct virtqueue_layout layout = {
		.size = size,
		.desc = { RING },
		.avail = { RING + vring_driver_avail_offset(size) },
		.used = { RING + vring_driver_used_offset(size) },
	};
	struct virtqueue_state state = { index, index };
	const char *reason = NULL;

	memset(f, 0, sizeof(*f));
	memory_add(&f->memory, 0, MiB);
	memory_finish(&f->memory);
	vring_driver_init(&f->driver, size,
			  ram(&f->memory, RING, vring_driver_bytes(size)),
			  features);
	/* As if @index buffers had gone through already. */
	f->driver.next_avail = index;
	f->driver.kicked = index;
	f->driver.next_used = index;
	f->driver.avail->idx = index;
	f->driver.used->idx = index;
	if (f->driver.event_idx) {
		f->driver.avail->ring[size] = index;
		*(uint16_t *)&f->driver.used->ring[size] = index;
	}
	assert_int_equal(virtqueue_start(&f->device, &f->memory, &layout,
					 features, state, &reason),
			 0);
}

static void fixture_end(struct fixture *f)
{
	virtqueue_stop(&f->device);
	memory_delete(&f->memory);
}

/*
 * The property test
 */

struct buffer {
	uint64_t token;
	uint16_t readable, writable;
	struct vring_segment segment[MAX_SEGMENTS];
	uint16_t head;
	uint32_t written;
};

/* What a naive ring would be: four lists that buffers move along. */
struct list {
	struct buffer buffer[VRING_DRIVER_MAX_SIZE];
	unsigned int count;
};

struct model {
	struct fixture f;
	struct rng *rng;
	struct list available, taken, pushed, published;
	uint64_t next_token;
	bool table_busy[VRING_DRIVER_MAX_SIZE];
	bool device_sleeps, driver_sleeps;
};

static void append(struct list *list, struct buffer buffer)
{
	assert_true(list->count < VRING_DRIVER_MAX_SIZE);
	list->buffer[list->count++] = buffer;
}

static struct buffer remove_at(struct list *list, unsigned int i)
{
	struct buffer buffer = list->buffer[i];

	list->count--;
	memmove(&list->buffer[i], &list->buffer[i + 1],
		(list->count - i) * sizeof(buffer));
	return buffer;
}

static struct buffer random_buffer(struct model *m)
{
	struct buffer b = { .token = 0 };
	unsigned int limit = m->f.device.size;
	unsigned int i;

	if (limit > MAX_SEGMENTS)
		limit = MAX_SEGMENTS;
	b.readable = (uint16_t)rng_below(m->rng, limit + 1);
	b.writable = (uint16_t)rng_below(m->rng, limit + 1 - b.readable);
	if (!b.readable && !b.writable)
		b.writable = 1;
	for (i = 0; i < b.readable + b.writable; i++)
		b.segment[i] = (struct vring_segment){
			.address = rng_next(m->rng),
			.length = 1 + (uint32_t)rng_below(m->rng, UINT32_MAX),
		};
	return b;
}

static uint64_t free_table(const struct model *m)
{
	uint64_t t = 0;

	while (m->table_busy[t])
		t++;
	return t;
}

/* Tokens carry the number of their table in the low byte, used or not. */
static int add_buffer(struct model *m, struct buffer *b)
{
	uint64_t table = free_table(m);
	uint64_t address = TABLES + table * TABLE_BYTES;
	int added;

	b->token = m->next_token << 8 | table;
	if (rng_chance(m->rng, 1, 2))
		added = vring_driver_add(&m->f.driver, b->segment, b->readable,
					 b->writable, b->token);
	else
		added = vring_driver_add_indirect(
			&m->f.driver, b->segment, b->readable, b->writable,
			b->token, ram(&m->f.memory, address, TABLE_BYTES),
			address);
	if (!added)
		m->table_busy[table] = true;
	return added;
}

static void do_add(struct model *m)
{
	unsigned int n = 1 + (unsigned int)rng_below(m->rng, 4);
	bool kick, waiting;
	struct buffer b;

	while (n-- && m->available.count + m->taken.count + m->pushed.count +
				      m->published.count <
			      m->f.device.size) {
		b = random_buffer(m);
		if (add_buffer(m, &b))
			break;
		m->next_token++;
		append(&m->available, b);
	}
	/* A kick may be skipped only while the device is awake. */
	waiting = m->available.count != 0;
	kick = vring_driver_needs_kick(&m->f.driver);
	if (m->device_sleeps && waiting)
		assert_true(kick);
	if (kick)
		m->device_sleeps = false;
}

static void check_chain(const struct virtqueue_chain *chain,
			const struct buffer *b)
{
	uint64_t bytes = 0;
	unsigned int i;

	assert_int_equal(chain->readable, b->readable);
	assert_int_equal(chain->writable, b->writable);
	for (i = 0; i < b->readable + b->writable; i++) {
		assert_int_equal(chain->segment[i].start.value,
				 b->segment[i].address);
		assert_int_equal(chain->segment[i].length,
				 b->segment[i].length);
		if (i < b->readable)
			bytes += b->segment[i].length;
	}
	assert_int_equal(chain->readable_bytes, bytes);
}

static void do_pop(struct model *m)
{
	const char *reason = NULL;
	int popped = virtqueue_pop(&m->f.device, &m->f.chain, &reason);
	struct buffer b;

	assert_int_equal(popped, m->available.count != 0);
	if (!popped)
		return;
	b = remove_at(&m->available, 0);
	check_chain(&m->f.chain, &b);
	b.head = m->f.chain.head;
	append(&m->taken, b);
}

/* Out of order: a device may return what it took in any order. */
static void do_push(struct model *m)
{
	struct buffer b;

	if (!m->taken.count)
		return;
	b = remove_at(&m->taken,
		      (unsigned int)rng_below(m->rng, m->taken.count));
	b.written = (uint32_t)rng_next(m->rng);
	virtqueue_push(&m->f.device, b.head, b.written);
	append(&m->pushed, b);
}

static void do_publish(struct model *m)
{
	bool any = m->pushed.count != 0;
	bool interrupt = virtqueue_publish(&m->f.device);

	assert_false(interrupt && !any);
	while (m->pushed.count)
		append(&m->published, remove_at(&m->pushed, 0));
	if (m->driver_sleeps && any)
		assert_true(interrupt);
	if (interrupt)
		m->driver_sleeps = false;
}

static void do_take(struct model *m)
{
	uint64_t token;
	uint32_t written;
	struct buffer b;
	bool took = vring_driver_take_used(&m->f.driver, &token, &written);

	assert_int_equal(took, m->published.count != 0);
	if (!took)
		return;
	b = remove_at(&m->published, 0);
	assert_int_equal(token, b.token);
	assert_int_equal(written, b.written);
	m->table_busy[token & 0xff] = false;
}

static void do_device_sleep(struct model *m)
{
	bool more;

	if (rng_chance(m->rng, 1, 2))
		virtqueue_disable_notify(&m->f.device);
	more = virtqueue_enable_notify(&m->f.device);
	assert_int_equal(more, m->available.count != 0);
	m->device_sleeps = !more;
}

static void do_driver_sleep(struct model *m)
{
	bool more;

	if (rng_chance(m->rng, 1, 2))
		vring_driver_disable_interrupts(&m->f.driver);
	more = vring_driver_enable_interrupts(&m->f.driver);
	assert_int_equal(more, m->published.count != 0);
	m->driver_sleeps = !more;
}

static void do_suppress(struct model *m)
{
	/* Whoever is awake may say so at any time. */
	if (!m->device_sleeps && rng_chance(m->rng, 1, 2))
		virtqueue_disable_notify(&m->f.device);
	if (!m->driver_sleeps && rng_chance(m->rng, 1, 2))
		vring_driver_disable_interrupts(&m->f.driver);
}

static void do_stop_and_go_on(struct model *m)
{
	struct virtqueue_layout layout = {
		.size = m->f.device.size,
		.desc = { RING },
		.avail = { RING + vring_driver_avail_offset(m->f.device.size) },
		.used = { RING + vring_driver_used_offset(m->f.device.size) },
	};
	uint64_t features = m->f.device.event_idx ? EVENT_IDX : 0;
	struct virtqueue_state state;
	const char *reason;

	do_publish(m);
	state = virtqueue_save(&m->f.device);
	virtqueue_stop(&m->f.device);
	assert_int_equal(virtqueue_start(&m->f.device, &m->f.memory, &layout,
					 features, state, &reason),
			 0);
}

static void random_steps(struct model *m, int steps)
{
	static void (*const step[])(struct model *) = {
		do_add,		 do_add,  do_pop,	   do_pop,
		do_push,	 do_push, do_publish,	   do_take,
		do_take,	 do_take, do_device_sleep, do_driver_sleep,
		do_suppress,	 do_stop_and_go_on,
	};

	while (steps--)
		step[rng_below(m->rng, ARRAY_SIZE(step))](m);
}

/* Nothing may be left over: both rings come back whole. */
static void finish(struct model *m)
{
	while (m->available.count)
		do_pop(m);
	while (m->taken.count)
		do_push(m);
	do_publish(m);
	while (m->published.count)
		do_take(m);
	do_pop(m);
	do_take(m);
	assert_int_equal(m->f.driver.free, m->f.driver.size);
}

static void test_halves_against_model(void **state)
{
	struct rng rng = rng_start("virtqueue");
	struct model *m = zeroed(sizeof(*m));
	uint16_t size, index;
	uint64_t features;
	int run;

	for (run = 0; run < 240; run++) {
		memset(m, 0, sizeof(*m));
		m->rng = &rng;
		size = (uint16_t)(2u << (run % 8));
		index = run % 3 ? (uint16_t)(65530 + rng_below(&rng, 6)) : 0;
		features = run & 16 ? EVENT_IDX : 0;
		fixture_start(&m->f, size, features, index);
		random_steps(m, 2000);
		finish(m);
		fixture_end(&m->f);
	}
	free(m);
}

/*
 * Two threads: no wake-up is lost (barriers C and D), nothing is seen before
 * its index (A and B).
 */
#define BUFFERS 60000
#define PATIENCE 20 /* seconds until a wake-up counts as lost */

struct threads {
	struct fixture f;
	sem_t kick, interrupt;
	uint64_t kicks, interrupts;
};

static void wait_for(sem_t *semaphore)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE;
	if (sem_timedwait(semaphore, &until)) {
		printf("Bail out! a wake-up was lost\n");
		exit(1);
	}
}

static void *device_thread(void *argument)
{
	struct threads *t = argument;
	struct virtqueue *queue = &t->f.device;
	const char *reason = NULL;
	uint32_t served = 0;
	uint32_t value;

	while (served < BUFFERS) {
		virtqueue_disable_notify(queue);
		while (virtqueue_pop(queue, &t->f.chain, &reason) > 0) {
			if (virtqueue_copy_out(queue, &t->f.chain, 0, &value,
					       4) ||
			    value != served) {
				printf("Bail out! stale buffer\n");
				exit(1);
			}
			virtqueue_push(queue, t->f.chain.head, served++);
			if (!virtqueue_publish(queue))
				continue;
			t->interrupts++;
			sem_post(&t->interrupt);
		}
		if (served < BUFFERS && !virtqueue_enable_notify(queue))
			wait_for(&t->kick);
	}
	return NULL;
}

static void submit(struct threads *t, uint32_t sent)
{
	uint64_t address = TABLES + 4ull * (sent % 4);
	struct vring_segment segment = { address, 4 };

	le32_store(ram(&t->f.memory, address, 4), sent);
	assert_int_equal(vring_driver_add(&t->f.driver, &segment, 1, 0, sent),
			 0);
	if (vring_driver_needs_kick(&t->f.driver)) {
		t->kicks++;
		sem_post(&t->kick);
	}
}

static void run_threads(uint64_t features)
{
	struct threads *t = zeroed(sizeof(*t));
	uint32_t sent = 0, taken = 0, written;
	pthread_t device;
	uint64_t token;

	fixture_start(&t->f, 4, features, 65000);
	sem_init(&t->kick, 0, 0);
	sem_init(&t->interrupt, 0, 0);
	assert_int_equal(pthread_create(&device, NULL, device_thread, t), 0);
	while (taken < BUFFERS) {
		vring_driver_disable_interrupts(&t->f.driver);
		while (sent < BUFFERS && sent - taken < 4)
			submit(t, sent++);
		while (vring_driver_take_used(&t->f.driver, &token, &written)) {
			assert_int_equal(token, taken);
			assert_int_equal(written, taken);
			taken++;
		}
		if (taken < BUFFERS && (sent - taken == 4 || sent == BUFFERS) &&
		    !vring_driver_enable_interrupts(&t->f.driver))
			wait_for(&t->interrupt);
	}
	pthread_join(device, NULL);
	printf("# %d buffers, %llu kicks, %llu interrupts\n", BUFFERS,
	       (unsigned long long)t->kicks,
	       (unsigned long long)t->interrupts);
	sem_destroy(&t->kick);
	sem_destroy(&t->interrupt);
	fixture_end(&t->f);
	free(t);
}

static void test_threads_lose_no_wakeup_with_flags(void **state)
{
	run_threads(0);
}

static void test_threads_lose_no_wakeup_with_event_idx(void **state)
{
	run_threads(EVENT_IDX);
}

/*
 * Single cases
 */

static struct fixture fx;

static int teardown(void **state)
{
	fixture_end(&fx);
	return 0;
}

static void offer_one(void)
{
	struct vring_segment segment = { TABLES, 4 };

	assert_int_equal(vring_driver_add(&fx.driver, &segment, 1, 0, 7), 0);
}

static void serve_one(bool *interrupt)
{
	const char *reason = NULL;

	assert_int_equal(virtqueue_pop(&fx.device, &fx.chain, &reason), 1);
	virtqueue_push(&fx.device, fx.chain.head, 0);
	*interrupt = virtqueue_publish(&fx.device);
}

static void test_used_is_seen_at_publish_only(void **state)
{
	const char *reason = NULL;
	uint64_t token;

	fixture_start(&fx, 4, 0, 0);
	offer_one();
	assert_int_equal(virtqueue_pop(&fx.device, &fx.chain, &reason), 1);
	virtqueue_push(&fx.device, fx.chain.head, 0);
	assert_int_equal(fx.driver.used->idx, 0);
	assert_false(vring_driver_take_used(&fx.driver, &token, NULL));
	assert_true(virtqueue_publish(&fx.device));
	assert_int_equal(fx.driver.used->idx, 1);
	assert_true(vring_driver_take_used(&fx.driver, &token, NULL));
	assert_int_equal(token, 7);
	assert_false(virtqueue_publish(&fx.device));
}

static void test_flags_suppress_interrupts(void **state)
{
	bool interrupt;

	fixture_start(&fx, 4, 0, 0);
	vring_driver_disable_interrupts(&fx.driver);
	offer_one();
	serve_one(&interrupt);
	assert_false(interrupt);
	assert_true(vring_driver_enable_interrupts(&fx.driver));
	offer_one();
	serve_one(&interrupt);
	assert_true(interrupt);
}

static void test_flags_suppress_kicks(void **state)
{
	fixture_start(&fx, 4, 0, 0);
	assert_false(vring_driver_needs_kick(&fx.driver));
	virtqueue_disable_notify(&fx.device);
	offer_one();
	assert_false(vring_driver_needs_kick(&fx.driver));
	assert_true(virtqueue_enable_notify(&fx.device));
	offer_one();
	assert_true(vring_driver_needs_kick(&fx.driver));
}

static void test_events_suppress_interrupts(void **state)
{
	uint64_t token;
	bool interrupt;

	fixture_start(&fx, 4, EVENT_IDX, 65535);
	offer_one();
	serve_one(&interrupt);
	assert_true(interrupt);
	/* Not asked again since. */
	offer_one();
	serve_one(&interrupt);
	assert_false(interrupt);
	assert_true(vring_driver_enable_interrupts(&fx.driver));
	while (vring_driver_take_used(&fx.driver, &token, NULL))
		;
	assert_false(vring_driver_enable_interrupts(&fx.driver));
	offer_one();
	serve_one(&interrupt);
	assert_true(interrupt);
	while (vring_driver_take_used(&fx.driver, &token, NULL))
		;
	vring_driver_disable_interrupts(&fx.driver);
	offer_one();
	serve_one(&interrupt);
	assert_false(interrupt);
}

static void test_events_suppress_kicks(void **state)
{
	bool interrupt;

	fixture_start(&fx, 4, EVENT_IDX, 65535);
	offer_one();
	assert_true(vring_driver_needs_kick(&fx.driver));
	offer_one();
	assert_false(vring_driver_needs_kick(&fx.driver));
	serve_one(&interrupt);
	assert_true(virtqueue_enable_notify(&fx.device));
	serve_one(&interrupt);
	assert_false(virtqueue_enable_notify(&fx.device));
	offer_one();
	assert_true(vring_driver_needs_kick(&fx.driver));
}

/* R17, R30: what the device writes goes past KVM's dirty log. */
static void test_every_write_is_marked(void **state)
{
	uint64_t used = RING + vring_driver_used_offset(256);
	uint64_t ring_end = used + 4 + 8 * 256;
	const char *reason = NULL;
	struct vring_segment segment = { TABLES, 4 };
	int i;

	fixture_start(&fx, 256, EVENT_IDX, 0);
	assert_int_not_equal(used / 4096, ring_end / 4096);
	assert_true(page_set_is_empty(&fx.memory.written));
	for (i = 0; i < 256; i++)
		vring_driver_add(&fx.driver, &segment, 1, 0, 0);
	for (i = 0; i < 255; i++) {
		assert_int_equal(virtqueue_pop(&fx.device, &fx.chain, &reason),
				 1);
		virtqueue_push(&fx.device, fx.chain.head, 0);
	}
	virtqueue_publish(&fx.device);
	page_set_clear(&fx.memory.written);

	/* The last entry of the ring */
	virtqueue_pop(&fx.device, &fx.chain, &reason);
	virtqueue_push(&fx.device, fx.chain.head, 0);
	assert_true(marked(&fx.memory, used + 4 + 8 * 255, 8));
	assert_false(marked(&fx.memory, used, 4));
	page_set_clear(&fx.memory.written);
	/* used->idx */
	virtqueue_publish(&fx.device);
	assert_true(marked(&fx.memory, used + 2, 2));
	assert_int_equal(page_set_count(&fx.memory.written), 1);
	page_set_clear(&fx.memory.written);
	/* avail_event */
	virtqueue_enable_notify(&fx.device);
	assert_true(marked(&fx.memory, ring_end, 2));
	assert_int_equal(page_set_count(&fx.memory.written), 1);
}

static void test_flag_writes_are_marked(void **state)
{
	uint64_t used = RING + vring_driver_used_offset(4);

	fixture_start(&fx, 4, 0, 0);
	virtqueue_disable_notify(&fx.device);
	assert_true(marked(&fx.memory, used, 2));
	page_set_clear(&fx.memory.written);
	virtqueue_enable_notify(&fx.device);
	assert_true(marked(&fx.memory, used, 2));
}

static void test_driver_refuses_what_does_not_fit(void **state)
{
	struct vring_segment segment[5] = {
		{ TABLES, 1 }, { TABLES, 2 }, { TABLES, 3 },
		{ TABLES, 4 }, { TABLES, 5 },
	};
	struct vring_desc table[5];

	fixture_start(&fx, 4, 0, 0);
	assert_int_equal(vring_driver_add(&fx.driver, segment, 0, 0, 0), -1);
	assert_int_equal(vring_driver_add(&fx.driver, segment, 2, 3, 0), -1);
	assert_int_equal(vring_driver_add(&fx.driver, segment, 2, 2, 0), 0);
	assert_int_equal(fx.driver.free, 0);
	assert_int_equal(vring_driver_add(&fx.driver, segment, 1, 0, 0), -1);
	assert_int_equal(vring_driver_add_indirect(&fx.driver, segment, 1, 0, 0,
						   table, TABLES),
			 -1);
}

static void test_driver_survives_a_device_that_returns_nonsense(void **state)
{
	uint64_t token;

	fixture_start(&fx, 4, 0, 0);
	offer_one();
	fx.driver.used->ring[0].id = 3;
	fx.driver.used->idx = 1;
	assert_false(vring_driver_take_used(&fx.driver, &token, NULL));
	fx.driver.used->ring[0].id = 0x10000;
	assert_false(vring_driver_take_used(&fx.driver, &token, NULL));
	fx.driver.used->ring[0].id = 0;
	assert_true(vring_driver_take_used(&fx.driver, &token, NULL));
}

#define CASE(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_used_is_seen_at_publish_only),
		CASE(test_flags_suppress_interrupts),
		CASE(test_flags_suppress_kicks),
		CASE(test_events_suppress_interrupts),
		CASE(test_events_suppress_kicks),
		CASE(test_every_write_is_marked),
		CASE(test_flag_writes_are_marked),
		CASE(test_driver_refuses_what_does_not_fit),
		CASE(test_driver_survives_a_device_that_returns_nonsense),
		cmocka_unit_test(test_halves_against_model),
		cmocka_unit_test(test_threads_lose_no_wakeup_with_flags),
		cmocka_unit_test(test_threads_lose_no_wakeup_with_event_idx),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
