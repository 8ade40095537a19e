/*
 * memcached_greeting.c - see memcached_greeting.h.
 *
 * An earlier life of ours may have left a connection whose last bytes the
 * server has yet to execute. They must not be executed after what we send: an
 * older value would end on top of a newer one. A memcached cannot be told to
 * end a connection, but it ends those of dead peers by itself, once it has read
 * them to their end. So before the LSN is asked for, it is waited for: until
 * there is no connection but ours; or, since operators and monitoring have
 * connections too, until nothing was written for a while, which for a server
 * that lets hundreds of milliseconds pass with bytes to read is a guess. (When
 * we ourselves go on, without having died, nothing is guessed: see
 * MP_WIRE_LINGERING in wire.h.)
 */
#include "memcached_greeting.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mc_text.h"

enum {
	QUIET_ROUNDS = 5, /* in a row, without a write */
	MAX_ROUNDS = 200, /* whoever is still writing then is none of us */
	MAX_REPLY_BYTES = 64 << 10,
};

/*
 * By these a server tells which flags it knows: a miss, or an error. (What it makes of ms s
 * and MA N cannot be asked without a trace: the first version that has both is 1.6.20.)
 */
#define NOBODYS_KEY MP_MEMCACHED_OWN_PREFIX "none"
#define ASK_NEWS "mg " NOBODYS_KEY " E1\r\nmd " NOBODYS_KEY " x\r\n"
enum { APPEND_SINCE = 1 << 16 | 6 << 8 | 20 };

size_t memcached_put_applied(char out[MEMCACHED_APPLIED_BYTES], uint64_t group_id,
			     struct memcached_place place)
{
	return (size_t)snprintf(out, MEMCACHED_APPLIED_BYTES,
				"v2 %016" PRIx64 " %016" PRIx64 " %" PRIu64 "%s", group_id,
				place.era, place.lsn, place.is_partial ? " partial" : "");
}

void memcached_greeting_start(struct memcached_greeting *g, struct mp_buffer *out)
{
	memcached_greeting_go_on(g, out);
}

void memcached_greeting_go_on(struct memcached_greeting *g, struct mp_buffer *out)
{
	static const char *const questions[] = {
		[MEMCACHED_ASKED_STATS] = "stats\r\n",
		[MEMCACHED_ASKED_SETTINGS] = ASK_NEWS "stats settings\r\n",
		[MEMCACHED_ASKED_LSN] = "get " MEMCACHED_APPLIED_KEY "\r\n",
	};

	/* Out of memory here ends in the greeting's timeout. */
	mp_buffer_append(out, questions[g->step], strlen(questions[g->step]));
}

static enum memcached_greeting_outcome refuse(struct memcached_greeting *g, const char *why)
{
	snprintf(g->why, sizeof(g->why), "%s", why);
	return MEMCACHED_GREETING_REFUSED;
}

/* The value of "STAT name value" goes to out; "" if it is not there. text is terminated. */
static void stat_of(const char *text, const char *name, char *out, size_t out_bytes)
{
	char start[64];
	const char *at;

	snprintf(start, sizeof(start), "STAT %s ", name);
	at = strstr(text, start);
	at = at ? at + strlen(start) : "";
	snprintf(out, out_bytes, "%.*s", (int)strcspn(at, "\r\n"), at);
}

static enum memcached_greeting_outcome take_stats(struct memcached_greeting *g, const char *text,
						  struct mp_buffer *out)
{
	uint64_t writes = mc_stat_number(text, "cmd_set") + mc_stat_number(text, "cmd_touch") +
			  mc_stat_number(text, "cmd_flush") + mc_stat_number(text, "delete_hits") +
			  mc_stat_number(text, "delete_misses");

	stat_of(text, "version", g->version, sizeof(g->version));
	g->pid = mc_stat_number(text, "pid");
	g->started = mc_stat_number(text, "time") - mc_stat_number(text, "uptime");
	g->items = mc_stat_number(text, "curr_items");
	g->time_s = (int64_t)mc_stat_number(text, "time");
	g->quiet_rounds = g->rounds > 0 && writes == g->writes ? g->quiet_rounds + 1 : 0;
	g->writes = writes;
	g->rounds++;
	if (mc_stat_number(text, "curr_connections") > 1 && g->quiet_rounds < QUIET_ROUNDS &&
	    g->rounds < MAX_ROUNDS)
		return MEMCACHED_GREETING_PAUSE;
	g->step = MEMCACHED_ASKED_SETTINGS;
	memcached_greeting_go_on(g, out);
	return MEMCACHED_GREETING_MORE;
}

static unsigned news_in(const struct memcached_greeting *g, const char *text)
{
	unsigned major = 0, minor = 0, patch = 0, news = 0;

	sscanf(g->version, "%u.%u.%u", &major, &minor, &patch);
	if ((major << 16 | minor << 8 | patch) >= APPEND_SINCE)
		news |= MC_NEWS_APPEND;
	if (strncmp(text, "EN\r\n", 4) == 0)
		news |= MC_NEWS_TOKENS;
	if (strstr(text, "\r\nNF\r\nSTAT "))
		news |= MC_NEWS_TOMBSTONES;
	return news;
}

static enum memcached_greeting_outcome take_settings(struct memcached_greeting *g, const char *text,
						     struct mp_buffer *out)
{
	char cas[8];

	g->news = news_in(g, text);
	g->item_size_max = mc_stat_number(text, "item_size_max");
	if (g->item_size_max == 0)
		return refuse(g, "it does not tell how large items may be");
	stat_of(text, "cas_enabled", cas, sizeof(cas));
	if (strcmp(cas, "no") == 0)
		return refuse(g, "it was started with -C, so it does not number its items' "
				 "versions; start it without");
	g->step = MEMCACHED_ASKED_LSN;
	memcached_greeting_go_on(g, out);
	return MEMCACHED_GREETING_MORE;
}

/*
 * An empty server is marked as ours before it gets a first write: the LSN is
 * stored later than what it covers, and a process that dies in between must find
 * its own items again, not a stranger's. Likewise one that is to be emptied gets
 * its mark with the same bytes: flush_all takes the old one, too.
 */
static enum memcached_greeting_outcome claim(struct memcached_greeting *g, struct mp_buffer *out)
{
	char value[MEMCACHED_APPLIED_BYTES], commands[160];
	size_t len;
	int n;

	if (g->empties || g->moves)
		g->place = g->new_place;
	len = memcached_put_applied(value, g->group_id, g->place);
	n = snprintf(commands, sizeof(commands),
		     "%sset " MEMCACHED_APPLIED_KEY " 0 0 %zu\r\n%s\r\n",
		     g->empties ? "flush_all\r\n" : "", len, value);
	g->step = MEMCACHED_CLAIMING;
	if (!mp_buffer_append(out, commands, (size_t)n))
		return refuse(g, "out of memory");
	return MEMCACHED_GREETING_MORE;
}

static enum memcached_greeting_outcome take_claimed(struct memcached_greeting *g,
						    struct mp_buffer *in)
{
	const char *expected = g->empties ? "OK\r\nSTORED\r\n" : "STORED\r\n";
	size_t len = mp_buffer_len(in);

	if (len < strlen(expected))
		return MEMCACHED_GREETING_MORE;
	if (memcmp(mp_buffer_data(in), expected, strlen(expected)) != 0)
		return refuse(g, g->empties ? "it cannot be emptied (flush_all)"
					    : "it does not store our applied LSN");
	mp_buffer_clear(in);
	return MEMCACHED_GREETING_READY;
}

static enum memcached_greeting_outcome take_applied(struct memcached_greeting *g, const char *text,
						    struct mp_buffer *out)
{
	const char *value = strstr(text, "\r\n");
	char word[16] = "";
	uint64_t group_id;

	if (strncmp(text, "VALUE ", 6) != 0) {
		if (g->items > 0)
			return refuse(g, "it holds items but not our applied LSN: they are not of "
					 "this group's log; restart it, or point to another one");
		g->moves = false;
		return claim(g, out);
	}
	if (sscanf(value, "\r\nv2 %16" SCNx64 " %16" SCNx64 " %" SCNu64 " %15s", &group_id,
		   &g->place.era, &g->place.lsn, word) < 3)
		return refuse(g, "its item " MEMCACHED_APPLIED_KEY " is not ours");
	if (group_id != g->group_id)
		return refuse(g, "it belongs to another group; restart it, or point to another "
				 "one");
	g->place.is_partial = strcmp(word, "partial") == 0;
	/* Whoever was to give it all it lacks has died. */
	if (g->place.is_partial && g->place.lsn == 0 && !g->moves && !g->empties) {
		g->empties = true;
		g->new_place = (struct memcached_place){0};
	}
	return g->empties || g->moves ? claim(g, out) : MEMCACHED_GREETING_READY;
}

enum memcached_greeting_outcome memcached_greeting_feed(struct memcached_greeting *g,
							struct mp_buffer *in, struct mp_buffer *out)
{
	static const char end[] = "END\r\n";
	enum memcached_greeting_outcome outcome;
	size_t len = mp_buffer_len(in);

	if (g->step == MEMCACHED_CLAIMING)
		return take_claimed(g, in);
	if (len < sizeof(end) - 1)
		return MEMCACHED_GREETING_MORE;
	if (g->step != MEMCACHED_ASKED_SETTINGS && strncmp(mp_buffer_data(in), "STAT ", 5) != 0 &&
	    strncmp(mp_buffer_data(in), "VALUE", 5) != 0 &&
	    strncmp(mp_buffer_data(in), end, 5) != 0)
		return refuse(g, "it does not speak Memcached's protocol");
	if (memcmp(mp_buffer_data(in) + len - 5, end, 5) != 0)
		return len < MAX_REPLY_BYTES ? MEMCACHED_GREETING_MORE
					     : refuse(g, "it does not speak Memcached's protocol");
	if (!mp_buffer_append(in, "", 1))
		return refuse(g, "out of memory");
	if (g->step == MEMCACHED_ASKED_LSN)
		outcome = take_applied(g, mp_buffer_data(in), out);
	else if (g->step == MEMCACHED_ASKED_SETTINGS)
		outcome = take_settings(g, mp_buffer_data(in), out);
	else
		outcome = take_stats(g, mp_buffer_data(in), out);
	mp_buffer_clear(in);
	return outcome;
}
