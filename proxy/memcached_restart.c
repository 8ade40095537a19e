/* memcached_restart.c - see memcached_restart.h. */
#include "memcached_restart.h"

#include <inttypes.h>

#include "log.h"
#include "state.h"
#include "transfer.h"

/*
 * Where to go on. With a Redis beside it, where that one needs the log from: if
 * the log does not reach back to there either, nothing is gained. Otherwise
 * where it stood last, so that no request of ours passes unseen, or at the end.
 */
static bool choose_place(struct mp_proxy *proxy, uint64_t *lsn)
{
	const struct mp_target *redis = &proxy->apply.target[mp_target_index(MP_REDIS)];
	const struct mp_target *memcached = &proxy->apply.target[mp_target_index(MP_MEMCACHED)];

	if (redis->backend) {
		*lsn = mp_apply_settled_lsn(redis);
		if (mu_holds(proxy->mu, redis->backend->era, *lsn) != MU_OK)
			return false;
	} else if (proxy->apply.era == proxy->view.era &&
		   mu_holds(proxy->mu, proxy->view.era, memcached->passed_lsn) == MU_OK) {
		*lsn = memcached->passed_lsn;
	} else {
		*lsn = proxy->view.commit_lsn;
	}
	/* From here on the log is kept for us. */
	return mu_seek(proxy->mu, proxy->view.era, *lsn) == MU_OK;
}

bool mp_memcached_restart(struct mp_proxy *proxy)
{
	struct mp_target *target = &proxy->apply.target[mp_target_index(MP_MEMCACHED)];
	uint64_t lsn;

	if (!target->backend)
		return false;
	if (target->is_restarting)
		return true;
	mu_view(proxy->mu, &proxy->view);
	if (!choose_place(proxy, &lsn))
		return false;
	mp_warn("memcached: it is emptied, and goes on from LSN %" PRIu64
		": the log does not reach back to what it has applied",
		lsn);
	target->passed_lsn = lsn;
	target->is_restarting = true;
	mp_backend_memcached_empty(target->backend, proxy->view.era, lsn, true);
	mp_transfer_fill(proxy, target);
	return true;
}

void mp_memcached_go_on_filling(struct mp_proxy *proxy)
{
	const struct mp_target *target = mp_target_of(proxy, MP_MEMCACHED);

	if (target->backend->applied_lsn == 0 ||
	    !mp_backend_memcached_is_partial(target->backend) ||
	    proxy->transfer.restore.wanted & 1U << mp_target_index(MP_MEMCACHED))
		return;
	mp_info("memcached: it was being filled; what it lacks is still to be copied");
	mp_transfer_fill(proxy, target);
}
