// SPDX-License-Identifier: MIT
/*
 * The dirty log, as src/kvm/dirty_log.c has it from KVM, step by step. With
 * INITIALLY_SET bits begin as 1, and a page whose bit is 1 is not protected:
 * its writes change nothing in the log until somebody clears the bit.
 *
 * The guest's write and its bit are one step: a write that finds its page
 * protected faults again.
 */
#include "sim.h"

static struct host *of_log(struct dirty_log *log)
{
	return (struct host *)((uint8_t *)log - offsetof(struct host, log));
}

void host_wrote(struct host *host, uint64_t frame)
{
	frames_add(&host->exists, frame);
	if (host->log.armed)
		frames_add(&host->log.bit, frame);
}

static uint64_t ram_word(uint64_t word)
{
	return word ? (1ull << HIGH_PAGES) - 1 : (1ull << LOW_PAGES) - 1;
}

/* Fault: the id goes out, the driver answers, and only then the log is armed;
 * the source will ask in vain. */
static void publish_early(struct host *host)
{
	unsigned int i;

	if (!world.source.options.hinting)
		return;
	host->source.ops->start(&host->source, &world.source.hinted);
	for (i = 0; i < 300; i++)
		coroutine_yield();
}

static int sim_arm(struct dirty_log *base, const struct page_set *populated,
		   struct error *err)
{
	struct host *host = of_log(base);
	struct host_log *log = &host->log;
	uint64_t word;

	edge();
	if (fault(FAULT_ARM_AFTER_PUBLISH))
		publish_early(host);
	page_set_take_shared(NULL, &host->memory.written);
	edge();
	log->armed = true;
	for (word = 0; word < 2; word++)
		log->bit.word[word] =
			world.setup.initially_set ? ram_word(word) : 0;
	if (world.setup.initially_set)
		for (word = 0; word < 2; word++) {
			edge();
			log->bit.word[word] &= ~page_set_word(populated, word);
		}
	trace("log: armed");
	edge();
	return 0;
}

/* KVM_GET_DIRTY_LOG, and KVM_CLEAR_DIRTY_LOG for what is taken, by slot. */
static int64_t sync_slot(struct host *host, const struct page_set *populated,
			 struct page_set *into, uint64_t word)
{
	uint64_t *log = &host->log.bit.word[word], bits;

	edge();
	bits = *log;
	if (!world.setup.manual_clear)
		*log = 0;
	if (world.setup.initially_set)
		bits &= page_set_word(populated, word);
	edge();
	if (world.setup.manual_clear)
		*log &= ~bits;
	page_set_or_word(into, word, bits);
	return __builtin_popcountll(bits);
}

static int64_t sim_sync(struct dirty_log *base,
			const struct page_set *populated,
			struct page_set *into, struct error *err)
{
	struct host *host = of_log(base);
	bool drop = fault(FAULT_MONITOR_NOT_LOGGED);
	int64_t total;

	edge();
	total = page_set_take_shared(drop ? NULL : into, &host->memory.written);
	total += sync_slot(host, populated, into, 0);
	total += sync_slot(host, populated, into, 1);
	trace("log: %lld written", (long long)total);
	edge();
	return total;
}

static void sim_disarm(struct dirty_log *base)
{
	edge();
	of_log(base)->log.armed = false;
	trace("log: disarmed");
}

const struct dirty_log_ops sim_log_ops = {
	.arm = sim_arm,
	.sync = sim_sync,
	.disarm = sim_disarm,
};
