/* SPDX-License-Identifier: MIT */
/*
 * What guest memory is made of on the host: pages of one of three kinds, given
 * back to the host by runs, and the question which of them exist.
 *
 * A page here is a guest's, 4096 bytes. A host page is what the host gives and
 * takes: 4096 bytes, or 2 MiB where the kind is hugetlb.
 */
#ifndef MEMORY_BACKING_H
#define MEMORY_BACKING_H

#include "base/error.h"
#include "memory/guest_memory.h"

/* RAM below this address, the rest from 4 GiB on: the hole holds the PCI
 * window, the interrupt controllers and the firmware area. */
#define BACKING_LOW_LIMIT 0xc0000000ull
#define BACKING_HIGH_START 0x100000000ull
#define BACKING_MIN_SIZE (32ull << 20)
#define BACKING_MAX_SIZE (1ull << 40)
#define BACKING_HUGE_PAGE (2ull << 20)

/* Their numbers are on the wire (docs/spec/stream.md, CONFIG). */
enum backing_kind {
	BACKING_ANONYMOUS, /* private, transparent huge pages where they fit */
	BACKING_MEMFD,	   /* a file in memory, shared */
	BACKING_HUGETLB,   /* such a file in 2 MiB pages of the host's pool */
	BACKING_KINDS,
};

/* "anonymous", "memfd", "hugetlb"; "unknown" for any other number. */
const char *backing_kind_name(enum backing_kind kind);

/* The kind of that name. Return: 0, or -1 when there is none */
int backing_kind_parse(const char *text, enum backing_kind *kind);

/**
 * backing_create() - Map guest RAM
 * @memory:	filled; owns its mappings and its file
 * @size:	bytes, a multiple of the host page from BACKING_MIN_SIZE to
 *		BACKING_MAX_SIZE
 *
 * Nothing is populated. Of anonymous memory huge pages are asked for. Those of
 * hugetlb are reserved at once, so that a host that has too few refuses here
 * and not in the middle of the guest's life. What is discarded gives up its
 * reservation as well: others may take those pages, and where none is left by
 * then the guest's next touch is a SIGBUS (KVM_RUN: EFAULT).
 *
 * To be undone by backing_destroy().
 *
 * Return: 0, or -1 with @err and @memory empty
 */
int backing_create(struct guest_memory *memory, enum backing_kind kind,
		   uint64_t size, struct error *err);
void backing_destroy(struct guest_memory *memory);

/* Empty set over @pages frames, to be freed by page_set_free(). Memory comes
 * as pages are added. Return: 0, or -1 with @err */
int page_set_create(struct page_set *set, uint64_t pages, struct error *err);
void page_set_free(struct page_set *set);

/* Bytes of a host page. */
uint64_t backing_page_size(const struct guest_memory *memory);

/* Pages of a guest's that are best given back together: those of a huge page,
 * where memory may be in huge pages, else 1. Blocks begin at multiples. */
uint64_t backing_block(const struct guest_memory *memory);

/**
 * backing_discard() - Give the host pages that lie in a run back to the host
 * @run:	not empty, all of it RAM of one region
 * @discarded:	filled: what reads as zero from now on, that is @run rounded
 *		inwards to host pages; its count is 0 when no whole host page
 *		lies in @run, which is no error
 *
 * Pages of @run outside *@discarded are as they were. One system call.
 *
 * Return: 0, or a negative errno with a @discarded of count 0: -EINVAL for a
 * run that is not as said, else the kernel's. After the kernel's a part may
 * read as zero all the same
 */
int backing_discard(const struct guest_memory *memory, struct page_run run,
		    struct page_run *discarded);

#define BACKING_BATCH 256u /* runs that one call takes */

/**
 * backing_discard_batch() - Give many runs back in one system call
 * @run:	each as for backing_discard()
 * @runs:	1 to BACKING_BATCH
 *
 * For runs that are many and small: what a call costs is half of it then. Only
 * for anonymous memory, and only where the kernel takes this advice by
 * process_madvise(); it is asked once.
 *
 * Return: how many of them, from the first, read as zero from now on. The
 * others are backing_discard()'s, which says why one fails; a part of them may
 * be gone
 */
unsigned int backing_discard_batch(const struct guest_memory *memory,
				   const struct page_run *run,
				   unsigned int runs);

/**
 * backing_populate() - Bring the pages of a run into being before their use
 * @run:	not empty, all of it RAM of one region
 *
 * Pages that exist are as they were; others read as zero, as they did. In huge
 * pages where whole ones fit and memory may be in some.
 *
 * Return: 0, or a negative errno, with a part of it done: -EINVAL for a run that
 * is not as said, else the kernel's. One without MADV_POPULATE_WRITE cannot,
 * which backing_can_populate() tells
 */
int backing_populate(const struct guest_memory *memory, struct page_run run);
bool backing_can_populate(const struct guest_memory *memory);

/* Whether huge pages may back the guest's anonymous memory; on from the start.
 * Does nothing for the other kinds. Return: 0, or a negative errno */
int backing_set_huge(const struct guest_memory *memory, struct page_run run,
		     bool huge);

/* The same, on: for the huge pages that lie in a run whole. Runs that alternate
 * with others cost the process a mapping each; where it may have no more, huge
 * pages are let in everywhere, for no other call of it could be served. */
void backing_allow_huge(const struct guest_memory *memory,
			struct page_run run);

/**
 * backing_populated() - Which pages exist
 * @into:	pages that are present or swapped out are added; on hugetlb
 *		all pages of a host page, as far as they are in @within
 * @within:	only this run is looked at; it may span regions and holes
 *
 * A page that does not exist was never written since it was last discarded.
 *
 * Return: 0, or -1 with @err
 */
int backing_populated(const struct guest_memory *memory, struct page_run within,
		      struct page_set *into, struct error *err);

/* Does reading a page that does not exist bring it into being? Anonymous
 * memory lends the zero page instead. */
bool backing_read_populates(const struct guest_memory *memory);

/**
 * backing_resident() - Bytes of guest memory that the host holds
 *
 * Of anonymous memory what is resident (Rss). Of the others what their file
 * holds, be it mapped or not: Rss leaves out hugetlb, and of a memfd what the
 * kernel has unmapped. So a memfd's pages count while they are swapped out.
 */
uint64_t backing_resident(const struct guest_memory *memory);

/* Both at once, for they are read in one go. */
struct backing_usage {
	uint64_t resident; /* as backing_resident() */
	uint64_t huge;	   /* of it, bytes in huge pages: AnonHugePages of
			      anonymous memory, and all of hugetlb's */
};

struct backing_usage backing_usage(const struct guest_memory *memory);

/* ------------------------------------------- inside, and for tests --- */

/* The ways to know which pages exist; backing_populated() chooses. */
enum backing_look {
	BACKING_LOOK_FILE,    /* memfd: the file's data and holes */
	BACKING_LOOK_SCAN,    /* PAGEMAP_SCAN, from Linux 6.7 on */
	BACKING_LOOK_PAGEMAP, /* anonymous: an entry a page */
	BACKING_LOOK_MINCORE, /* hugetlb: a call a host page */
	BACKING_LOOKS,
};

/* As backing_populated(), in this way and no other. Return: 0, or a negative
 * errno; -ENOTTY or -EINVAL when the kernel has no PAGEMAP_SCAN */
int backing_look(const struct guest_memory *memory, enum backing_look how,
		 struct page_run within, struct page_set *into);

#endif
