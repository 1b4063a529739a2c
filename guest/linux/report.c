// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The free page report (VIRTIO 1.3 section 5.5.6.6), of either protocol: they
 * differ in how a request comes and in who decides, not in what is sent.
 *
 * The worker asks for one step after another. Handler and worker share the
 * driver half and ask it under decision_lock, so a STOP is seen before the next
 * block. What it sends is its own affair: nobody else uses the queue.
 */
#include <linux/gfp.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>

#include "balloon.h"

#define STEPS_PER_RUN 64
#define SIGN_ROOM 1 /* the slot that is kept for the sign (R23) */

static uint hints_per_kick = 16;
module_param(hints_per_kick, uint, 0644);
MODULE_PARM_DESC(hints_per_kick,
		 "blocks after which the device is told, if not before");

/* A host waits while hints come. Where the allocator zeroes what it gives, a
 * block may take longer than the notification it would save. */
static uint kick_ms = 20;
module_param(kick_ms, uint, 0644);
MODULE_PARM_DESC(kick_ms, "time after which it is told of the next block");

static struct virtqueue *queue_of(const struct balloon *b)
{
	return b->queue[BALLOON_FREE_PAGE];
}

/* --------------------------------------------- the protocol's decisions --- */

/* A word stays as it is while it is on its way; no word is used again before
 * as many others were sent as the ring can hold (R6). */
static void *standard_word(struct balloon *b, u32 value)
{
	__virtio32 *word = &b->words[b->next_word++ %
				     virtqueue_get_vring_size(queue_of(b))];

	*word = cpu_to_virtio32(b->vdev, value);
	return word;
}

/* A decision counts as carried out, so there must be room for it. */
static enum report_step next_standard(struct balloon *b, unsigned int room,
				      void **word, bool *full)
{
	u32 id = VIRTIO_BALLOON_CMD_ID_STOP;
	enum report_step step;

	*full = !room;
	if (*full)
		return REPORT_STEP_NOTHING;
	step = report_driver_next(&b->standard, &id);
	if (step == REPORT_STEP_SEND_BLOCK && room <= SIGN_ROOM) {
		*full = true;
		return REPORT_STEP_NOTHING;
	}
	if (step == REPORT_STEP_SEND_ID || step == REPORT_STEP_SEND_SIGN)
		*word = standard_word(b, id);
	return step;
}

static enum report_step next_command(struct balloon *b, unsigned int room,
				     void **word, bool *full)
{
	enum report_step step = command_driver_next(&b->command, room);

	*word = step == REPORT_STEP_SEND_ID ? &b->command.id_word :
					      &b->command.sign_word;
	*full = step == REPORT_STEP_NOTHING && command_driver_busy(&b->command);
	return step;
}

/* @full: the step waits for a slot. */
static enum report_step next_step(struct balloon *b, void **word, bool *full)
{
	unsigned int room = queue_of(b)->num_free;
	enum report_step step;

	mutex_lock(&b->decision_lock);
	step = b->commands ? next_command(b, room, word, full) :
			     next_standard(b, room, word, full);
	mutex_unlock(&b->decision_lock);
	return step;
}

static void note_exhausted(struct balloon *b)
{
	mutex_lock(&b->decision_lock);
	if (b->commands)
		command_driver_exhausted(&b->command);
	else
		report_driver_exhausted(&b->standard);
	mutex_unlock(&b->decision_lock);
}

static void note_released(struct balloon *b)
{
	mutex_lock(&b->decision_lock);
	if (b->commands)
		command_driver_released(&b->command);
	else
		report_driver_released(&b->standard);
	mutex_unlock(&b->decision_lock);
}

/* ----------------------------------------------------------- sending --- */

static void take_used_back(struct balloon *b)
{
	unsigned int length;

	while (virtqueue_get_buf(queue_of(b), &length))
		;
}

static void kick(struct balloon *b)
{
	b->unkicked = 0;
	b->kicked = jiffies;
	balloon_kick(queue_of(b));
}

/* There is room: next_step() has looked. */
static void send_word(struct balloon *b, void *word)
{
	struct scatterlist sg;

	sg_init_one(&sg, word, sizeof(__le32));
	if (virtqueue_add_outbuf(queue_of(b), &sg, 1, b, GFP_NOWAIT))
		dev_warn_once(&b->vdev->dev, "the free page queue is broken\n");
	kick(b);
}

static bool shall_kick(const struct balloon *b)
{
	return b->unkicked >= READ_ONCE(hints_per_kick) ||
	       time_after_eq(jiffies, b->kicked +
				      msecs_to_jiffies(READ_ONCE(kick_ms)));
}

/* Return: false when there is no block, or no queue that takes it */
static bool send_block(struct balloon *b)
{
	struct page *page = balloon_block_take(&b->order);
	struct scatterlist sg;

	if (!page)
		return false;
	sg_init_table(&sg, 1);
	sg_set_page(&sg, page, PAGE_SIZE << b->order, 0);
	if (virtqueue_add_inbuf(queue_of(b), &sg, 1, page, GFP_NOWAIT)) {
		__free_pages(page, b->order);
		return false;
	}
	balloon_block_keep(&b->blocks, page, b->order);
	balloon_count(COUNT_HINTS, 1);
	balloon_count(COUNT_HINTED_PAGES, 1ul << b->order);
	b->unkicked++;
	if (shall_kick(b))
		kick(b);
	return true;
}

/* Return: true when there is room again; else an interrupt will tell */
static bool wait_for_room(struct balloon *b)
{
	balloon_count(COUNT_FULL, 1);
	kick(b);
	return !virtqueue_enable_cb_delayed(queue_of(b));
}

/* Return: false when there is nothing to do */
static bool carry_out(struct balloon *b)
{
	void *word = NULL;
	bool full;

	take_used_back(b);
	switch (next_step(b, &word, &full)) {
	case REPORT_STEP_SEND_ID:
		b->order = UINT_MAX;
		balloon_count(COUNT_REPORTS, 1);
		send_word(b, word);
		return true;
	case REPORT_STEP_SEND_BLOCK:
		if (!send_block(b))
			note_exhausted(b);
		return true;
	case REPORT_STEP_SEND_SIGN:
		balloon_count(COUNT_SIGNS, 1);
		send_word(b, word);
		return true;
	case REPORT_STEP_RELEASE:
		balloon_blocks_release(&b->blocks);
		balloon_count(COUNT_RELEASES, 1);
		note_released(b);
		return true;
	case REPORT_STEP_NOTHING:
		break;
	}
	return full && wait_for_room(b);
}

void balloon_report(struct work_struct *work)
{
	struct balloon *b = container_of(work, struct balloon, report_work);
	unsigned int steps;

	virtqueue_disable_cb(queue_of(b));
	for (steps = 0; steps < STEPS_PER_RUN; steps++) {
		if (!READ_ONCE(b->running) ||
		    virtqueue_is_broken(queue_of(b)) || !carry_out(b))
			return;
		cond_resched();
	}
	balloon_queue_worker(b, work);
}

/* ----------------------------------------------------- begin and end --- */

int balloon_report_init(struct balloon *b)
{
	unsigned int slots;

	report_driver_init(&b->standard);
	command_driver_init(&b->command);
	if (!queue_of(b))
		return 0;
	slots = virtqueue_get_vring_size(queue_of(b));
	if (slots <= SIGN_ROOM)
		return -ENOSPC;
	b->unkicked = 0;
	b->words = kcalloc(slots, sizeof(*b->words), GFP_KERNEL);
	if (!b->words)
		return -ENOMEM;
	virtqueue_disable_cb(queue_of(b));
	return balloon_blocks_begin(&b->blocks);
}

/* After the reset: the device may look at the words until then. */
void balloon_report_exit(struct balloon *b)
{
	kfree(b->words);
	b->words = NULL;
}

void balloon_report_leave(struct balloon *b)
{
	balloon_blocks_end(&b->blocks);
	balloon_blocks_release(&b->blocks);
}
