/* SPDX-License-Identifier: MIT */
/* Whether a page is all zero: with an early way out for those that are not. */
#ifndef MIGRATION_ZERO_H
#define MIGRATION_ZERO_H

#include <stdbool.h>
#include <stdint.h>

/*
 * @page: 4096 bytes, 64-byte aligned. The guest and its devices may be writing
 * to it: whatever they write after the page was taken from to_send is in the
 * dirty log and looked at again, and the last round runs while nothing writes.
 * ThreadSanitizer cannot know.
 */
__attribute__((no_sanitize("thread")))
static inline bool page_is_zero(const void *page)
{
	typedef uint64_t words __attribute__((vector_size(64)));
	const words *v = page;
	unsigned int i;

	/* Most pages in use show it in their first line. */
	for (i = 0; i < 4096 / sizeof(words); i++) {
		words w = v[i];

		if (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7])
			return false;
	}
	return true;
}

#endif
