/* Writes JSON (RFC 8259) to stdout, one object on each line. */
#ifndef ATOMSHIM_JSON_H
#define ATOMSHIM_JSON_H

#include <stdbool.h>
#include <stdint.h>

/* Begins an object; json_end() ends it and the line. Objects do not nest. */
void json_begin(void);
void json_end(void);

/* Each adds a member. Bytes of a text that are not UTF-8 become U+FFFD; NULL becomes null. */
void json_text(const char *name, const char *value);
void json_number(const char *name, uint64_t value);
void json_bool(const char *name, bool value);

#endif
