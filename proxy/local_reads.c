/* local_reads.c - see local_reads.h. */
#include "local_reads.h"

#include "state.h"

enum { BACKLOG_BYTES = 1 << 20 }; /* with more in hand the own server is no shorter way */

void mp_local_reads_begin(struct mp_session *s)
{
	s->reads_locally = s->proxy->options.read_mode == MP_READ_LOCAL;
}

bool mp_local_reads_wanted(const struct mp_session *s, const struct mp_request_meta *meta)
{
	/* A scan that is asked now here, now there, would begin anew each time. */
	return s->reads_locally && meta->class == MP_REQUEST_READ && !meta->watch && !meta->scan &&
	       !meta->blocks;
}

static bool can_be_asked(const struct mp_proxy *proxy, const struct mp_target *target)
{
	return target->state == MP_BACKEND_READY && !target->silent && !proxy->apply.stale &&
	       !proxy->apply.seek_wanted &&
	       target->backend->ops->backlog(target->backend) < BACKLOG_BYTES;
}

enum mp_local_way mp_local_reads_way(const struct mp_proxy *proxy, const struct mp_request *r)
{
	const struct mp_target *target = &proxy->apply.target[mp_target_index(MP_REDIS)];
	const struct mp_session *s = r->session;

	if (!r->meta.local)
		return MP_LOCAL_NO;
	if (s->under_way > s->under_way_here)
		return MP_LOCAL_WAITS;
	if (!can_be_asked(proxy, target) || target->handed_lsn < s->written_lsn)
		return MP_LOCAL_NO;
	return MP_LOCAL_YES;
}

void mp_local_reads_send(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_session *s = r->session;

	mp_session_sent(s, r);
	r->is_here = true;
	s->under_way_here++;
	if (r->meta.ttl || r->meta.groups)
		r->now_ms = mp_expiry_reader_ms(proxy);
	mp_large_look(proxy, r);
	STAT_ADD(proxy, reads, 1);
	mp_apply_read(proxy, r);
}
