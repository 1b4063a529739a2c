// SPDX-License-Identifier: MIT
/*
 * The dirty_log interface on KVM's bitmap.
 *
 * Where KVM offers INITIALLY_SET every bit is 1 when logging begins, and a page
 * whose bit is 1 is not write-protected. So arm() clears the populated memory:
 * that is what protects it. The bits of memory that does not exist stay 1 until
 * such a page exists and a sync takes it; a write to it is thus never missed.
 *
 * Without INITIALLY_SET a set bit means a real write, so every logged page is
 * taken, whether it exists or not: KVM may have cleared the bit by the reading.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm/dirty_log.h"

#define WORD_PAGES 64
/* 128 MiB at a time: KVM holds its lock of the guest's page tables meanwhile, and
 * a vCPU that needs it stands still for as long. */
#define PIECE_PAGES (1ull << (27 - GUEST_PAGE_SHIFT))
#define PIECE_WORDS (PIECE_PAGES / WORD_PAGES)

static struct kvm_log *to_kvm(struct dirty_log *log)
{
	return (struct kvm_log *)log;
}

/* Words of a slot's bitmap; regions begin and end on multiples of 64 pages or
 * the last word is partly used. */
static uint64_t slot_pages(const struct memory_region *region)
{
	return region->size >> GUEST_PAGE_SHIFT;
}

static uint64_t first_frame(const struct memory_region *region)
{
	return region->start.value >> GUEST_PAGE_SHIFT;
}

/* Clear in KVM's log the pages whose bits are set in log->clear. */
static int clear_piece(struct kvm_log *log, unsigned int slot,
		       uint64_t first, uint64_t pages, struct error *err)
{
	struct kvm_clear_dirty_log piece = {
		.slot = slot,
		.first_page = first,
		.num_pages = pages,
		.dirty_bitmap = log->clear,
	};

	if (ioctl(log->vm->vm_fd, KVM_CLEAR_DIRTY_LOG, &piece) < 0)
		return error_set_errno(err, errno, "KVM_CLEAR_DIRTY_LOG");
	return 0;
}

static uint64_t piece_length(uint64_t first, uint64_t pages)
{
	return pages - first < PIECE_PAGES ? pages - first : PIECE_PAGES;
}

/* The first piece of a slot, at or after @first, that holds pages that exist:
 * what is absent costs nothing. Return: its first page, or the slot's @pages */
static uint64_t next_piece(const struct page_set *populated, uint64_t base,
			   uint64_t first, uint64_t pages)
{
	struct page_run run;

	if (!page_set_next_run(populated, base + first, 1, &run) ||
	    run.first >= base + pages)
		return pages;
	return (run.first - base) & ~(PIECE_PAGES - 1);
}

/* Clear all of a slot's pages that are in @populated. */
static int clear_populated(struct kvm_log *log, unsigned int slot,
			   const struct page_set *populated, struct error *err)
{
	const struct memory_region *region = &log->vm->memory->region[slot];
	uint64_t base = first_frame(region), pages = slot_pages(region);
	uint64_t first = 0, word;

	while ((first = next_piece(populated, base, first, pages)) < pages) {
		uint64_t length = piece_length(first, pages);
		uint64_t words = (length + WORD_PAGES - 1) / WORD_PAGES;

		for (word = 0; word < words; word++)
			log->clear[word] =
				page_set_word(populated,
					      (base + first) / WORD_PAGES + word);
		if (clear_piece(log, slot, first, length, err) < 0)
			return -1;
		first += length;
	}
	return 0;
}

static int kvm_log_arm(struct dirty_log *base, const struct page_set *populated,
		       struct error *err)
{
	struct kvm_log *log = to_kvm(base);
	unsigned int slot;

	/* What the monitor wrote up to now will be read by the sender. */
	page_set_take_shared(NULL, &log->vm->memory->written);
	/* Where one slot fails, those before it log already. */
	log->armed = true;
	if (kvm_vm_set_slot_flags(log->vm, KVM_MEM_LOG_DIRTY_PAGES, err) < 0)
		return -1;
	if (!log->vm->initially_set)
		return 0;
	for (slot = 0; slot < log->vm->memory->regions; slot++)
		if (clear_populated(log, slot, populated, err) < 0)
			return -1;
	return 0;
}

/* Merge one piece of a slot whose log was read into log->bitmap. */
static int64_t merge_piece(struct kvm_log *log, unsigned int slot,
			   uint64_t first, const struct page_set *populated,
			   struct page_set *into, struct error *err)
{
	const struct memory_region *region = &log->vm->memory->region[slot];
	uint64_t length = piece_length(first, slot_pages(region));
	uint64_t words = (length + WORD_PAGES - 1) / WORD_PAGES;
	uint64_t frame_word = (first_frame(region) + first) / WORD_PAGES;
	uint64_t word, bits;
	int64_t merged = 0;

	for (word = 0; word < words; word++) {
		bits = log->bitmap[first / WORD_PAGES + word];
		if (log->vm->initially_set)
			bits &= page_set_word(populated, frame_word + word);
		log->clear[word] = bits;
		if (!bits)
			continue;
		page_set_or_word(into, frame_word + word, bits);
		merged += __builtin_popcountll(bits);
	}
	if (merged && log->vm->manual_clear &&
	    clear_piece(log, slot, first, length, err) < 0)
		return -1;
	return merged;
}

static int64_t sync_slot(struct kvm_log *log, unsigned int slot,
			 const struct page_set *populated,
			 struct page_set *into, struct error *err)
{
	const struct memory_region *region = &log->vm->memory->region[slot];
	uint64_t pages = slot_pages(region), first = 0;
	struct kvm_dirty_log get = {
		.slot = slot,
		.dirty_bitmap = log->bitmap,
	};
	int64_t merged, total = 0;

	if (ioctl(log->vm->vm_fd, KVM_GET_DIRTY_LOG, &get) < 0)
		return error_set_errno(err, errno, "KVM_GET_DIRTY_LOG");
	for (;; first += piece_length(first, pages)) {
		/* Without INITIALLY_SET the log says all there is. */
		if (log->vm->initially_set)
			first = next_piece(populated, first_frame(region),
					   first, pages);
		if (first >= pages)
			return total;
		merged = merge_piece(log, slot, first, populated, into, err);
		if (merged < 0)
			return -1;
		total += merged;
	}
}

static int64_t kvm_log_sync(struct dirty_log *base,
			    const struct page_set *populated,
			    struct page_set *into, struct error *err)
{
	struct kvm_log *log = to_kvm(base);
	int64_t merged, total;
	unsigned int slot;

	/* What the monitor wrote itself, KVM's log does not know (R30). */
	total = page_set_take_shared(into, &log->vm->memory->written);
	for (slot = 0; slot < log->vm->memory->regions; slot++) {
		merged = sync_slot(log, slot, populated, into, err);
		if (merged < 0)
			return -1;
		total += merged;
	}
	return total;
}

static void kvm_log_disarm(struct dirty_log *base)
{
	struct kvm_log *log = to_kvm(base);

	if (log->armed)
		kvm_vm_set_slot_flags(log->vm, 0, NULL);
	log->armed = false;
}

static const struct dirty_log_ops kvm_log_ops = {
	.arm = kvm_log_arm,
	.sync = kvm_log_sync,
	.disarm = kvm_log_disarm,
};

int kvm_log_create(struct kvm_log *log, struct kvm_vm *vm, struct error *err)
{
	uint64_t largest = 0, words;
	unsigned int slot;

	for (slot = 0; slot < vm->memory->regions; slot++)
		if (slot_pages(&vm->memory->region[slot]) > largest)
			largest = slot_pages(&vm->memory->region[slot]);
	words = (largest + WORD_PAGES - 1) / WORD_PAGES;
	*log = (struct kvm_log){
		.log.ops = &kvm_log_ops,
		.vm = vm,
		.bitmap = calloc(words, sizeof(uint64_t)),
		.clear = calloc(PIECE_WORDS, sizeof(uint64_t)),
	};
	if (log->bitmap && log->clear)
		return 0;
	kvm_log_destroy(log);
	return error_set(err, "no memory for the dirty log");
}

void kvm_log_destroy(struct kvm_log *log)
{
	free(log->bitmap);
	free(log->clear);
	log->bitmap = log->clear = NULL;
}
