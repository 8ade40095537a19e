/* mc_item.h - an item as a backend tells it. */
#ifndef MP_MC_ITEM_H
#define MP_MC_ITEM_H

#include <stdbool.h>
#include <stdint.h>

#include "slice.h"

struct mc_item {
	bool found;
	struct mp_slice value; /* empty if it was not asked for */
	uint32_t flags;
	int64_t left_s; /* until its deadline; -1: it has none */
	uint64_t cas;   /* the backend's */
	bool stale;     /* marked by md I: X */
	bool won;       /* this very fetch took the win: W */
	bool sent;      /* somebody else has it: Z */
	bool fetched;   /* it has been read since it was stored: h1 */
};

/*
 * The backend's whole reply to mg, or to get or gets of one key. False: it is
 * an error, or not understood.
 */
bool mc_parse_item(struct mp_slice reply, struct mc_item *item);
#endif
