/* conf_table.h - the table of all keys, and how each is taken into a struct conf. */
#ifndef MUPROXY_CONF_TABLE_H
#define MUPROXY_CONF_TABLE_H

#include "conf.h"

enum conf_kind {
	CONF_TEXT,    /* const char * */
	CONF_ADDRESS, /* const char *: unix:/path, host:port or [v6]:port */
	CONF_TCP,     /* const char *: the same without unix: */
	CONF_KEY,     /* const char *, and key */
	CONF_COUNT,   /* uint32_t */
	CONF_CHOICE,  /* uint32_t, or the word auto: CONF_AUTO */
	CONF_BYTES32, /* uint32_t */
	CONF_BYTES,   /* uint64_t */
	CONF_POWER,   /* uint64_t bytes, a power of two */
	CONF_NS,      /* uint64_t nanoseconds */
	CONF_MS,      /* uint32_t milliseconds */
	CONF_WORD,    /* uint32_t: the place in words */
};

struct conf_setting {
	const char *section, *key;
	enum conf_kind kind;
	size_t offset;        /* in struct conf */
	uint64_t least, most; /* of a number, in the unit stored; most 0: no bound but the type's */
	const char *const *words;
};

extern const struct conf_setting conf_settings[];
extern const size_t conf_setting_count;

/* The place in the table, or conf_setting_count if there is no such key. */
size_t conf_find(const char *section, const char *key);
bool conf_section_known(const char *section);

/*
 * Take a value. text must live as long as conf. False with the reason, without
 * key or line, in err.
 */
bool conf_set(struct conf *conf, size_t i, const char *text, char *err, size_t err_bytes);

#endif
