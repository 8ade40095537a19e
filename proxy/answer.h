/* answer.h - replies to requests, wherever they come from and whoever asked. */
#ifndef MP_ANSWER_H
#define MP_ANSWER_H

#include <stdbool.h>

#include "request.h"
#include "slice.h"

struct mp_proxy;

/*
 * A piece of a request's reply; with last, it is answered: it is in no
 * list any more, and r must not be used.
 */
void mp_answer(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice piece, bool last);
/* The whole reply is an error, text "ERR ..." as Redis would say it (without "-"). */
void mp_answer_error(struct mp_proxy *proxy, struct mp_request *r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* An error reply in a protocol's form. Returns its length, at most bytes. */
size_t mp_format_error(enum mp_protocol protocol, const char *text, char *out, size_t bytes);
/* The same for a request of which raw are the bytes: a binary frame is answered by one. */
size_t mp_format_error_to(enum mp_protocol protocol, struct mp_slice raw, const char *text,
			  char *out, size_t bytes);
/* Forget a request that needs no answer (any more). It is in no list. */
void mp_drop(struct mp_proxy *proxy, struct mp_request *r);

#endif
