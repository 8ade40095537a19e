/* redis_say.h - replies that a session gives by itself, in its version of the protocol. */
#ifndef MP_REDIS_SAY_H
#define MP_REDIS_SAY_H

#include <stdint.h>

#include "session.h"
#include "slice.h"

#define MP_NOT_AN_INTEGER "-ERR value is not an integer or out of range\r\n"
#define MP_NOT_AN_INT \
	"-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"
#define MP_SYNTAX_ERROR "-ERR syntax error\r\n"

/* A whole reply, as it goes out. */
void mp_say(struct mp_session *s, const char *wire);
void mp_say_number(struct mp_session *s, int64_t number);
void mp_say_bulk(struct mp_session *s, struct mp_slice bulk);
/* Text: RESP3 says that it is just that. */
void mp_say_text(struct mp_session *s, struct mp_slice text);
/* An error line in which a client's bytes are quoted: they are made one line. */
void mp_say_error(struct mp_session *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
