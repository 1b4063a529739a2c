/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Sums and products of numbers that a guest, a peer or a user supplied.
 *
 * Each returns true and stores the exact result, or returns false and stores
 * nothing that may be used.
 */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *sum)
{
	return !__builtin_add_overflow(a, b, sum);
}

static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

/* True when [start, start + length) lies within [0, size) without wrapping. */
static inline bool checked_within(uint64_t start, uint64_t length,
				  uint64_t size)
{
	return start <= size && length <= size - start;
}

#endif
