/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): the CPU's instruction where there is one, else a
 * table. */
#ifndef ATOMSHIM_CRC32C_H
#define ATOMSHIM_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Returns the CRC-32C of `size` bytes. `crc` is the value for the bytes before them (0 for none):
 * crc32c(crc32c(0, a), b) is the CRC of a followed by b. Async-signal-safe. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* Returns what crc32c() does for `size` bytes that are all zero, such as a hole in a file. Its time
 * hardly depends on the size. */
uint32_t crc32c_zeros(uint32_t crc, uint64_t size);

/* Does what crc32c() does, by the portable code alone: the reference for the tests. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);

/*
 * Returns the checksum of a payload: the CRC-32C of its words of 8 bytes (little-endian, the last
 * one filled up with zeros), each multiplied by CRC32C_MULTIPLIER modulo 2^64. A plain CRC would be
 * the same for all contents of one size that end in their own CRC, as records do; the CRC is
 * linear, and the multiplication is not. `crc` continues a sum as in crc32c(), but only behind a
 * multiple of 8 bytes. crc32c_zeros() serves both.
 */
#define CRC32C_MULTIPLIER UINT64_C(0x9e3779b97f4a7c15)
uint32_t crc32c_mixed(uint32_t crc, const void *bytes, size_t size);
uint32_t crc32c_mixed_portable(uint32_t crc, const void *bytes, size_t size);

/* Continues sums[0] as crc32c() does, and sums[1] as crc32c_mixed() does, in one pass. */
void crc32c_pair(uint32_t sums[2], const void *bytes, size_t size);

#endif
