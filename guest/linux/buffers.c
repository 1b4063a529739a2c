// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Buffers of pages on their way to the device and back, several at a time.
 *
 * One half of them is filled while the device has the other: it is told of a
 * half at once, and where all are out, half of them are waited for. A buffer
 * holds frame numbers; or, with F_PAGE_RANGES, the pages themselves, in the
 * largest blocks there are (docs/spec/page-ranges.md).
 *
 * The blocks of a buffer are in its list until it has come back. With a device
 * that does not answer any more they stay there until its reset.
 */
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/virtio_config.h>

#include "balloon.h"
#include "compat.h"

#define BUFFERS_PER_KICK (BUFFERS_ON_WAY / 2)

bool balloon_by_ranges(const struct balloon *b)
{
	return virtio_has_feature(b->vdev, BALLOON_F_PAGE_RANGES);
}

/* A buffer of ranges is never larger than an empty ring: where no memory is to
 * be had for an indirect descriptor, each range takes a slot. */
unsigned int balloon_buffer_room(const struct balloon *b, enum balloon_queue to)
{
	if (!balloon_by_ranges(b))
		return FRAMES_PER_BUFFER;
	return min_t(unsigned int, RANGES_PER_BUFFER,
		     virtqueue_get_vring_size(b->queue[to]));
}

unsigned int balloon_buffer_pages(const struct balloon *b,
				  enum balloon_queue to)
{
	return balloon_buffer_room(b, to)
	       << (balloon_by_ranges(b) ? LARGEST_ORDER : 0);
}

/* ------------------------------------------------------------ filling --- */

static bool put_frame(struct balloon *b, struct balloon_buffer *buffer,
		      unsigned int room, struct page *page)
{
	if (buffer->used == room)
		return false;
	buffer->frames[buffer->used++] =
		cpu_to_virtio32(b->vdev, (u32)page_to_pfn(page));
	return true;
}

/* What follows the last range makes it longer: the pages of a block that was
 * split do. */
static bool put_range(struct balloon_transfer *transfer,
		      struct balloon_buffer *buffer, unsigned int room,
		      struct page *block)
{
	unsigned int bytes = pages_of(block) << PAGE_SHIFT;
	struct scatterlist *last = buffer->used ?
		&transfer->ranges[buffer->used - 1] : NULL;

	if (last && page_to_pfn(sg_page(last)) + (last->length >> PAGE_SHIFT) ==
			    page_to_pfn(block)) {
		last->length += bytes;
		return true;
	}
	if (buffer->used == room)
		return false;
	sg_set_page(&transfer->ranges[buffer->used++], block, bytes, 0);
	return true;
}

static bool put_block(struct balloon *b, enum balloon_queue to,
		      struct balloon_buffer *buffer, struct page *block)
{
	unsigned int room = balloon_buffer_room(b, to);

	if (balloon_by_ranges(b))
		return put_range(&b->transfer[to], buffer, room, block);
	return put_frame(b, buffer, room, block);
}

/* The first blocks of @from go into the buffer: at most @most pages, and what
 * it holds. */
static void fill_buffer(struct balloon *b, enum balloon_queue to,
			struct balloon_buffer *buffer, struct list_head *from,
			unsigned int most)
{
	struct page *block, *next;

	buffer->used = 0;
	buffer->pages = 0;
	sg_init_table(b->transfer[to].ranges, RANGES_PER_BUFFER);
	list_for_each_entry_safe(block, next, from, lru) {
		if (buffer->pages + pages_of(block) > most ||
		    !put_block(b, to, buffer, block))
			break;
		list_move(&block->lru, &buffer->blocks);
		buffer->pages += pages_of(block);
	}
}

/* What was put in last is first: so they are in @from as they were. */
static void empty_buffer(struct balloon_buffer *buffer, struct list_head *from)
{
	struct page *block, *next;

	list_for_each_entry_safe(block, next, &buffer->blocks, lru)
		list_move(&block->lru, from);
}

/* ---------------------------------------------------- there and back --- */

static int add_buffer(struct balloon *b, enum balloon_queue to,
		      struct balloon_buffer *buffer)
{
	struct scatterlist *ranges = b->transfer[to].ranges;
	struct scatterlist sg;

	if (balloon_by_ranges(b)) {
		sg_mark_end(&ranges[buffer->used - 1]);
		return virtqueue_add_inbuf(b->queue[to], ranges, buffer->used,
					   buffer, GFP_NOWAIT | __GFP_NOWARN);
	}
	sg_init_one(&sg, buffer->frames,
		    buffer->used * sizeof(buffer->frames[0]));
	/* One segment takes a slot and no memory. */
	return virtqueue_add_outbuf(b->queue[to], &sg, 1, buffer, GFP_NOWAIT);
}

static void kick(struct balloon *b, enum balloon_queue to)
{
	b->transfer[to].unkicked = 0;
	balloon_count(COUNT_BATCHES, 1);
	balloon_kick(b->queue[to]);
}

static struct balloon_buffer *free_buffer(struct balloon_transfer *transfer)
{
	struct balloon_buffer *buffer = transfer->buffers;

	for (; buffer < transfer->buffers + BUFFERS_ON_WAY; buffer++)
		if (list_empty(&buffer->blocks))
			return buffer;
	return NULL;
}

unsigned int balloon_send(struct balloon *b, enum balloon_queue to,
			  struct list_head *from, unsigned int most)
{
	struct balloon_transfer *transfer = &b->transfer[to];
	struct balloon_buffer *buffer = free_buffer(transfer);

	if (!buffer)
		return 0;
	fill_buffer(b, to, buffer, from,
		    min(most, balloon_buffer_pages(b, to)));
	if (!buffer->pages)
		return 0;
	if (add_buffer(b, to, buffer)) {
		empty_buffer(buffer, from);
		return 0;
	}
	transfer->on_way++;
	transfer->pages += buffer->pages;
	balloon_count(COUNT_BUFFERS, 1);
	balloon_count_most(to == QUEUE_INFLATE ? COUNT_MOST_INFLATING :
						 COUNT_MOST_DEFLATING,
			   transfer->on_way);
	if (++transfer->unkicked == BUFFERS_PER_KICK)
		kick(b, to);
	return buffer->pages;
}

unsigned int balloon_collect(struct balloon *b, enum balloon_queue to,
			     struct list_head *back, unsigned int left)
{
	struct balloon_transfer *transfer = &b->transfer[to];
	struct virtqueue *vq = b->queue[to];
	struct balloon_buffer *buffer;
	unsigned int length, pages = 0;

	if (transfer->unkicked && transfer->on_way > left)
		kick(b, to);
	for (;;) {
		buffer = transfer->on_way > left ?
			balloon_wait(b, vq) : virtqueue_get_buf(vq, &length);
		if (!buffer)
			break;
		list_splice_init(&buffer->blocks, back);
		transfer->on_way--;
		pages += buffer->pages;
	}
	transfer->pages -= pages;
	return pages;
}

/* ----------------------------------------------------- begin and end --- */

void balloon_transfer_init(struct balloon_transfer *transfer)
{
	int i;

	for (i = 0; i < BUFFERS_ON_WAY; i++)
		INIT_LIST_HEAD(&transfer->buffers[i].blocks);
}

void balloon_transfer_end(struct balloon_transfer *transfer,
			  struct list_head *back)
{
	int i;

	for (i = 0; i < BUFFERS_ON_WAY; i++)
		list_splice_init(&transfer->buffers[i].blocks, back);
	transfer->on_way = 0;
	transfer->pages = 0;
	transfer->unkicked = 0;
}
