/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Little-endian numbers in memory that a guest or a peer wrote.
 *
 * The types are the kernel's (__le16 and so on), so that sparse sees a number
 * that was used without being converted. Nothing here needs an aligned pointer.
 */
#ifndef BASE_ENDIAN_H
#define BASE_ENDIAN_H

#include <linux/types.h>
#include <stdint.h>

#ifdef __CHECKER__
#define endian_force __attribute__((force))
#else
#define endian_force
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define endian_swap(bits, v) (v)
#else
#define endian_swap(bits, v) __builtin_bswap##bits(v)
#endif

static inline uint16_t le16_get(__le16 v)
{
	return endian_swap(16, (endian_force uint16_t)v);
}

static inline uint32_t le32_get(__le32 v)
{
	return endian_swap(32, (endian_force uint32_t)v);
}

static inline uint64_t le64_get(__le64 v)
{
	return endian_swap(64, (endian_force uint64_t)v);
}

static inline __le16 le16_make(uint16_t v)
{
	return (endian_force __le16)endian_swap(16, v);
}

static inline __le32 le32_make(uint32_t v)
{
	return (endian_force __le32)endian_swap(32, v);
}

static inline __le64 le64_make(uint64_t v)
{
	return (endian_force __le64)endian_swap(64, v);
}

static inline uint16_t le16_load(const void *p)
{
	__le16 v;

	__builtin_memcpy(&v, p, sizeof(v));
	return le16_get(v);
}

static inline uint32_t le32_load(const void *p)
{
	__le32 v;

	__builtin_memcpy(&v, p, sizeof(v));
	return le32_get(v);
}

static inline uint64_t le64_load(const void *p)
{
	__le64 v;

	__builtin_memcpy(&v, p, sizeof(v));
	return le64_get(v);
}

static inline void le16_store(void *p, uint16_t value)
{
	__le16 v = le16_make(value);

	__builtin_memcpy(p, &v, sizeof(v));
}

static inline void le32_store(void *p, uint32_t value)
{
	__le32 v = le32_make(value);

	__builtin_memcpy(p, &v, sizeof(v));
}

static inline void le64_store(void *p, uint64_t value)
{
	__le64 v = le64_make(value);

	__builtin_memcpy(p, &v, sizeof(v));
}

#endif
