/* transfer_words.c - state transfer as people read it (proxy.h). */
#include <inttypes.h>
#include <stdio.h>

#include "proxy.h"
#include "transfer.h"

const char *mp_proxy_restore_stage(const struct mp_proxy_stats *stats)
{
	static const char *const names[] = {
		[MP_TRANSFER_NONE] = "none",           [MP_TRANSFER_WAITING] = "waiting",
		[MP_TRANSFER_ASKING] = "asking",       [MP_TRANSFER_PREPARING] = "preparing",
		[MP_TRANSFER_RECEIVING] = "receiving", [MP_TRANSFER_LOADING] = "loading",
		[MP_TRANSFER_FOLLOWING] = "following", [MP_TRANSFER_CUTTING] = "cutting",
	};

	return names[stats->restore_stage];
}

int mp_proxy_restore_percent(const struct mp_proxy_stats *stats)
{
	if (stats->restore_stage > MP_TRANSFER_RECEIVING)
		return 100;
	if (stats->restore_total_bytes == 0)
		return -1;
	if (stats->restore_bytes >= stats->restore_total_bytes)
		return 100;
	return (int)(stats->restore_bytes * 100 / stats->restore_total_bytes);
}

int64_t mp_proxy_restore_left_ms(const struct mp_proxy_stats *stats)
{
	uint64_t total = stats->restore_total_bytes, done = stats->restore_bytes;

	if (stats->restore_stage != MP_TRANSFER_RECEIVING || total == 0 || done == 0 ||
	    done > total)
		return -1;
	return (int64_t)((double)stats->restore_ms * (double)(total - done) / (double)done);
}

static int put_size(char *out, size_t bytes, const struct mp_proxy_stats *stats)
{
	int percent = mp_proxy_restore_percent(stats);

	if (stats->restore_total_bytes > 0 && percent >= 0)
		return snprintf(out, bytes, ": %d %% of %.1f MB", percent,
				(double)stats->restore_total_bytes / 1e6);
	return snprintf(out, bytes, ": %.1f MB", (double)stats->restore_bytes / 1e6);
}

void mp_proxy_restore_words(const struct mp_proxy_stats *stats, char out[MP_PROGRESS_BYTES])
{
	const char *stage = mp_proxy_restore_stage(stats);
	int64_t left_ms = mp_proxy_restore_left_ms(stats);
	int len;

	if (stats->restore_stage <= MP_TRANSFER_WAITING) {
		snprintf(out, MP_PROGRESS_BYTES, "%s",
			 stats->restore_stage == MP_TRANSFER_NONE ? stage
			 : stats->adopting ? "waiting to adopt the seed's data"
					   : "waiting for a replica to be restored from");
		return;
	}
	if (stats->adopting)
		len = snprintf(out, MP_PROGRESS_BYTES, "%s from the seed", stage);
	else
		len = snprintf(out, MP_PROGRESS_BYTES, "%s from replica %u", stage,
			       stats->restore_donor);
	if (stats->restore_bytes > 0)
		len += put_size(out + len, MP_PROGRESS_BYTES - (size_t)len, stats);
	if (stats->restore_total_items > 0)
		len += snprintf(out + len, MP_PROGRESS_BYTES - (size_t)len,
				", %" PRIu64 " of %" PRIu64 " items", stats->restore_items,
				stats->restore_total_items);
	if (left_ms >= 0)
		snprintf(out + len, MP_PROGRESS_BYTES - (size_t)len, ", %.1f s left",
			 (double)left_ms / 1000);
}
