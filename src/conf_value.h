/* conf_value.h - the kinds of values in a configuration file, and their units. */
#ifndef MUPROXY_CONF_VALUE_H
#define MUPROXY_CONF_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * All return false, with what is wrong in err ("'12q' is not a number of
 * bytes such as 65536, 64K, 16M or 1G"), and leave *value alone then.
 */
bool conf_parse_count(const char *text, uint64_t *value, char *err, size_t err_bytes);
bool conf_parse_bytes(const char *text, uint64_t *value, char *err, size_t err_bytes);
/* A time needs its unit (ns, us, ms, s, m); a bare 0 will do. */
bool conf_parse_ns(const char *text, uint64_t *value, char *err, size_t err_bytes);
/* 64 hexadecimal digits. */
bool conf_parse_key(const char *text, uint8_t key[32], char *err, size_t err_bytes);
/* One of the words of a NULL-terminated list; *value is its place. */
bool conf_parse_word(const char *text, const char *const *words, uint64_t *value, char *err,
		     size_t err_bytes);

#endif
