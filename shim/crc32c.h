/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): the CPU's instruction where there is one, else a table. */
#ifndef ATOMSHIM_CRC32C_H
#define ATOMSHIM_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * CRC-32C of `size` bytes, going on from `crc`, the value for the bytes before them (0 for none).
 * crc32c(crc32c(0, a), b) is the CRC of a followed by b. Async-signal-safe.
 */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* The same for `size` bytes that are all zero, in a time that hardly depends on the size: a hole in a file. */
uint32_t crc32c_zeros(uint32_t crc, uint64_t size);

/* The same by the portable code alone; the reference that tests compare crc32c() with. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);

#endif
