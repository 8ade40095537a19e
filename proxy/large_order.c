/* large_order.c - see large_order.h. */
#include "config.h"

#include "large_order.h"

#include "session_parts.h"
#include "state.h"

/* Later ones of its client that are with the server, or on their way, can be asked again. */
static bool may_recall(const struct mp_request *later)
{
	return later->meta.class == MP_REQUEST_READ && !later->meta.blocks && !later->meta.gates &&
	       !later->large &&
	       (later->state == MP_REQUEST_BATCHED || later->state == MP_REQUEST_RUNNING);
}

/* They wait; what becomes of those that are under way is nobody's concern. */
static bool recall_own(const struct mp_request *r)
{
	struct mp_session *s = r->session;
	struct mp_request *later;

	for (later = r->next; later; later = later->next)
		if (later->state != MP_REQUEST_WAITING && later->state != MP_REQUEST_DONE &&
		    !may_recall(later))
			return false;
	for (later = r->next; later; later = later->next) {
		struct mp_request *orphan = later;

		if (later->state == MP_REQUEST_WAITING || later->state == MP_REQUEST_DONE)
			continue;
		later = mp_session_replace(s, orphan);
		if (!later) {
			mp_session_kill(s);
			return false;
		}
		if (orphan->state == MP_REQUEST_BATCHED)
			orphan->raw = mp_bytes_share(&later->raw);
		mp_session_unsend(s, later);
	}
	return true;
}

static bool is_behind(const struct mp_request *later, const struct mp_request *r)
{
	return later->state != MP_REQUEST_FREE && later->state != MP_REQUEST_WAITING &&
	       later->link == r->link && later->origin.session == r->origin.session &&
	       later->origin.sequence > r->origin.sequence;
}

void mp_large_hold(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_request *other;

	TAILQ_FOREACH(other, &proxy->large.held, place)
		if (other->link == r->link && other->origin.session == r->origin.session &&
		    other->origin.sequence > r->origin.sequence)
			break;
	if (other)
		TAILQ_INSERT_BEFORE(other, r, place);
	else
		TAILQ_INSERT_TAIL(&proxy->large.held, r, place);
}

/* The relayed request is an orphan from here on, and another one waits in its stead. */
static bool begin_anew(struct mp_proxy *proxy, struct mp_request *orphan)
{
	struct mp_request *now = mp_requests_get(&proxy->requests);

	if (!now)
		return false;
	now->meta = orphan->meta;
	now->origin = orphan->origin;
	now->peer_handle = orphan->peer_handle;
	now->since_ms = orphan->since_ms;
	now->raw = mp_bytes_share(&orphan->raw);
	now->link = orphan->link;
	orphan->link = NULL;
	mp_requests_charge(&proxy->requests, now);
	mp_large_hold(proxy, now);
	return true;
}

static bool recall_relayed(struct mp_proxy *proxy, const struct mp_request *r)
{
	struct mp_requests *pool = &proxy->requests;
	struct mp_request *later;

	for (uint32_t i = 0; (later = mp_requests_at(pool, i)); i++)
		if (is_behind(later, r) && !may_recall(later))
			return false;
	for (uint32_t i = 0; (later = mp_requests_at(pool, i)); i++) {
		if (is_behind(later, r) && !begin_anew(proxy, later)) {
			mp_link_close(r->link, "out of memory for a request");
			return false;
		}
	}
	return true;
}

bool mp_large_recall(struct mp_proxy *proxy, struct mp_request *r)
{
	if (!r->session)
		return recall_relayed(proxy, r);
	return !(r->session->barrier && r->session->barrier != r) && recall_own(r);
}
