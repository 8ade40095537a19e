/*
 * rewrite_scripts.h - commands whose effect depends on the server's clock or
 * luck, as scripts that depend on their arguments alone (DESIGN 6.4;
 * DETERMINISM, Redis 9 and 12). What is logged of them calls a script by its sha;
 * servers are given the scripts when they are greeted.
 */
#ifndef MP_REWRITE_SCRIPTS_H
#define MP_REWRITE_SCRIPTS_H

#include <stddef.h>
#include <stdint.h>

#include "resp.h"

/* xadd.lua, spop.lua, and by what names servers know them. */
extern const char mp_xadd_script[], mp_spop_script[];
extern const char mp_xadd_script_sha1[41], mp_spop_script_sha1[41];

/* Both return the length of the command in wire form, and write it only if it fits cap. */

/*
 * XADD with the ID "*", which is argument `star`: it becomes <now_ms>-*, or if
 * the stream is ahead of that, whatever comes behind its last ID.
 */
size_t mp_encode_xadd(const struct resp_request *request, int star, int64_t now_ms, char *out,
		      size_t cap);
/* SPOP of count members (-1: the form without a count), drawn by the seed. */
size_t mp_encode_spop(struct mp_slice key, int64_t count, uint32_t seed, char *out, size_t cap);

/* A seed that nobody can foretell, from 1 to 2147483646; always of ten digits. */
uint32_t mp_next_seed(int64_t now_ms);

#endif
