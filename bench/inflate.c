// SPDX-License-Identifier: MIT
/*
 * The inflate queue's device, alone: frame numbers in buffers of 256, as Linux
 * sends them, over memory that exists; what lies in the buffers' way is the real
 * queue, the real balloon and the real discard. And what it is measured by.
 *
 *   inflate ring|each|once buddy|shuffled small|huge MIB BUFFERS
 *
 * ring: the device, with so many BUFFERS (of 1 MiB) on the way at a time
 * each: madvise() a page, in the same order: how a balloon is often written
 * once: one madvise() for all of it: the limit
 * buddy: blocks of 4 MiB in any order, each from its first page to its last, as
 * the kernel's allocator hands them out; shuffled: pages in any order
 *
 * Prints "BYTES NANOSECONDS CPU_NANOSECONDS CALLS HUGE_BYTES": given back, as the
 * resident set shows, and in huge pages before. Exit status 1 when that is not
 * all of it, or the device does not say the same.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "rig.h"

#define BASE (16 * MIB)	  /* where the pages begin; below are rings, numbers */
#define NUMBERS_AT MIB	  /* in guest memory */
#define BUFFER_FRAMES 256u
#define BLOCK_FRAMES 1024u
#define MOST_MIB 2048

static void swap(uint32_t *a, uint32_t *b)
{
	uint32_t c = *a;

	*a = *b;
	*b = c;
}

/* Frame numbers of all pages, into guest memory. */
static void order_frames(uint32_t *frames, uint64_t count, bool shuffled)
{
	uint64_t unit = shuffled ? 1 : BLOCK_FRAMES, units = count / unit;
	uint32_t *order = calloc(units, sizeof(*order));
	uint64_t i, state = 1;

	if (!order)
		err(1, "order");
	for (i = 0; i < units; i++)
		order[i] = i;
	for (i = units; i > 1; i--)
		swap(&order[i - 1], &order[rig_random(&state) % i]);
	for (i = 0; i < count; i++)
		frames[i] = (BASE >> GUEST_PAGE_SHIFT) +
			    order[i / unit] * unit + i % unit;
	free(order);
}

static void ring(struct rig *rig, uint64_t count, unsigned int buffers,
		 uint64_t *ns)
{
	uint64_t sent = 0, back = 0, all = count / BUFFER_FRAMES, began;
	unsigned int i;

	*ns = 0;
	while (sent < all) {
		for (i = 0; i < buffers && sent < all; i++, sent++)
			rig_add(rig, NUMBERS_AT + sent * BUFFER_FRAMES * 4,
				BUFFER_FRAMES * 4, false);
		*ns += rig_serve(rig, BALLOON_INFLATE);
		back += rig_reap(rig);
	}
	/* What waits for the rest of its huge page does so for a while only. */
	began = clock_ns(CLOCK_MONOTONIC);
	balloon_flush(&rig->balloon);
	*ns += clock_ns(CLOCK_MONOTONIC) - began;
	if (back != all || rig->discarded < count)
		errx(1, "%" PRIu64 " of %" PRIu64 " buffers came back, %" PRIu64
		     " of %" PRIu64 " pages were given back", back, all,
		     rig->discarded, count);
}

static void each(struct rig *rig, const uint32_t *frames, uint64_t count)
{
	uint8_t *memory = rig->memory.region[0].host;
	uint64_t i;

	for (i = 0; i < count; i++)
		if (madvise(memory + ((uint64_t)frames[i] << GUEST_PAGE_SHIFT),
			    GUEST_PAGE_SIZE, MADV_DONTNEED) < 0)
			err(1, "madvise");
	rig->discards = count;
}

static void once(struct rig *rig, uint64_t count)
{
	if (madvise(rig->memory.region[0].host + BASE,
		    count << GUEST_PAGE_SHIFT, MADV_DONTNEED) < 0)
		err(1, "madvise");
	rig->discards = 1;
}

/* Of the mappings that hold guest memory. */
static uint64_t huge_bytes(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	uint64_t kib = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib << 10;
}

static void measure(struct rig *rig, const char *how, uint64_t count,
		    unsigned int buffers)
{
	const uint32_t *frames =
		(void *)(rig->memory.region[0].host + NUMBERS_AT);
	uint64_t before = backing_resident(&rig->memory);
	uint64_t huge = huge_bytes(), bytes;
	uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	uint64_t ns = clock_ns(CLOCK_MONOTONIC);

	if (!strcmp(how, "ring")) {
		ring(rig, count, buffers, &ns);
	} else {
		if (!strcmp(how, "each"))
			each(rig, frames, count);
		else
			once(rig, count);
		ns = clock_ns(CLOCK_MONOTONIC) - ns;
	}
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	bytes = before - backing_resident(&rig->memory);
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
	       bytes, ns, cpu, rig->discards, huge);
	if (bytes != count << GUEST_PAGE_SHIFT)
		errx(1, "%" PRIu64 " bytes are gone and not %" PRIu64, bytes,
		     count << GUEST_PAGE_SHIFT);
}

static bool one_of(const char *word, const char *a, const char *b,
		   const char *c)
{
	return !strcmp(word, a) || !strcmp(word, b) || !strcmp(word, c);
}

int main(int argc, char **argv)
{
	uint64_t mib = argc == 6 ? strtoul(argv[4], NULL, 10) : 0;
	unsigned int buffers = argc == 6 ? strtoul(argv[5], NULL, 10) : 0;
	struct page_run all;
	struct rig rig;

	if (!mib || mib > MOST_MIB || mib % 4 || !buffers ||
	    buffers > RIG_RING || !one_of(argv[1], "ring", "each", "once") ||
	    !one_of(argv[2], "buddy", "shuffled", "buddy") ||
	    !one_of(argv[3], "small", "huge", "huge"))
		errx(2, "usage: inflate ring|each|once buddy|shuffled "
		     "small|huge MIB BUFFERS (a multiple of 4, up to %u; up "
		     "to %u)", MOST_MIB, RIG_RING);
	rig_create(&rig, BASE + mib * MIB + 16 * MIB, BALLOON_INFLATE);
	all = (struct page_run){ 0, rig.memory.frames };
	if (!strcmp(argv[3], "small"))
		backing_set_huge(&rig.memory, all, false);
	memset(rig.memory.region[0].host + BASE, 0x5a, mib * MIB);
	order_frames((void *)(rig.memory.region[0].host + NUMBERS_AT),
		     mib * MIB >> GUEST_PAGE_SHIFT, argv[2][0] == 's');
	measure(&rig, argv[1], mib * MIB >> GUEST_PAGE_SHIFT, buffers);
	return 0;
}
