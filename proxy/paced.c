/* paced.c - see paced.h. */
#include "paced.h"

#include "session_parts.h"
#include "state.h"

bool mp_paced_has_room(const struct mp_request *r, uint64_t untaken)
{
	if (r->link)
		return untaken < MP_PACED_WINDOW_BYTES;
	return r->session && mp_buffer_len(&r->session->out) < MP_SESSION_OUT_BYTES &&
	       mp_buffer_len(&r->reply) < MP_SESSION_OUT_BYTES;
}

bool mp_paced_is_abandoned(const struct mp_request *r)
{
	return r->link ? r->link->state == MP_LINK_CLOSED : !r->session;
}

void mp_paced_on_taken(struct mp_request *r)
{
	struct mp_proxy *proxy = r->session->proxy;

	if (mp_buffer_len(&r->session->out) >= MP_SESSION_OUT_BYTES || mp_buffer_len(&r->reply) > 0)
		return;
	if (r->state == MP_REQUEST_RELAYED && r->untaken > 0) {
		mp_relay_out_taken(proxy, r, r->untaken);
		r->untaken = 0;
	} else if (r->large) {
		mp_large_on_taken(r->large);
	} else {
		mp_listing_on_taken(proxy, r);
	}
}

void mp_paced_on_taken_there(struct mp_proxy *proxy, const struct mp_link *link, uint64_t sequence,
			     uint64_t bytes)
{
	if (!mp_large_on_taken_there(proxy, link, sequence, bytes))
		mp_listing_on_taken_there(proxy, link, sequence, bytes);
}
