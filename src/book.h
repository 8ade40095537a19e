/*
 * book.h - who the group's replicas are and where: the latest configuration that is
 * known to be committed, and of each replica that was ever heard of its address.
 *
 * The log decides who is a member; addresses are no part of it. Each replica tells
 * its own to the others as it greets them, and they pass on what they know
 * (peering.h), so whoever comes back finds those that came meanwhile. On disk the
 * book survives a machine that reboots, which the log does not.
 */
#ifndef MUPROXY_BOOK_H
#define MUPROXY_BOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mu.h"

/* host:port, the NUL included: what a struct mp_address has room for. */
#define BOOK_ADDRESS_BYTES 256

struct book_place {
	uint64_t stamp; /* of two, the later one is right: ms since 1970, or less */
	char address[BOOK_ADDRESS_BYTES]; /* "": not known */
};

struct book {
	uint64_t configuration; /* mu_configuration(); 0: none is known */
	struct book_place place[MU_ID_SLOTS];
};

/* Ids that have an address. */
uint32_t book_known(const struct book *book);
/* Take what is newer; true if anything was. */
bool book_take_place(struct book *book, unsigned id, const struct book_place *place);
bool book_take_configuration(struct book *book, uint64_t configuration);
/* Is that replica none of the group, and never to be again? */
bool book_is_removed(const struct book *book, unsigned id);

/*
 * Read the file that a book of this group was kept in. 1: there it is; 0: there is no
 * such file; -1: one line in err.
 */
int book_load(struct book *book, const char *path, uint64_t group_id, char *err, size_t err_bytes);
/*
 * Keep it: whole on disk when this returns true, and else the last one is. False: one
 * line in err.
 */
bool book_store(const struct book *book, const char *path, uint64_t group_id, char *err,
		size_t err_bytes);

#endif
