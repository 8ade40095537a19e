/*
 * test_mc_dialects.c - the meta commands and the binary protocol, as we decide
 * and translate them, against a real memcached (mc_leader.h).
 */
#include <arpa/inet.h>
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "feed.h"
#include "mc_binary.h"
#include "mc_leader.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define S(text)                        \
	{                              \
		text, sizeof(text) - 1 \
	}

static void same(struct mp_slice input)
{
	test_mc_compare(input, input);
}

static void say(const char *text)
{
	same((struct mp_slice){text, strlen(text)});
}

/* -------------------------------------------------------------------- meta */

#define OPAQUE31 "Oxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void meta_answers_are_the_servers(void **state)
{
	static const struct mp_slice inputs[] = {
		S("mn\r\n"),
		S("mn x y\r\n"),
		S("mg\r\n"),
		S("mg nothing\r\n"),
		S("mg nothing v k Oabc q\r\n"),
		S("mg nothing v k Oabc\r\n"),
		S("mg nothing z\r\n"),
		S("mg nothing v v\r\n"),
		S("mg nothing !\r\n"),
		S("mg nothing T\r\n"),
		S("mg nothing Tx\r\n"),
		S("mg nothing N-\r\n"),
		S("mg nothing " OPAQUE31 "\r\n"),
		S("mg nothing Y\r\n"),
		S("ms a\r\n"),
		S("ms\r\n"),
		S("ms a x\r\n"),
		S("ms a -1\r\n"),
		S("ms a 1\r\nx\r\nmg a v f k s\r\n"),
		S("ms a 1 q\r\ny\r\nmg a v\r\n"),
		S("ms a 1 F5 k Oabc\r\nz\r\nmg a v f\r\n"),
		S("ms a 2\r\nxyz\r\n"),
		S("ms a 2 q\r\nxyz\r\n"),
		S("ms a 1 Fx\r\nx\r\nmg a v\r\n"),
		S("ms a 1 z\r\nx\r\nmg a v\r\n"),
		S("ms a 1 k k\r\nx\r\nmg a v\r\n"),
		S("ms a 1 MX\r\nx\r\nmg a v\r\n"),
		S("ms a 1 MEE\r\nx\r\nmg a v\r\n"),
		S("ms a 1 " OPAQUE31 "x\r\nx\r\n"),
		S("ms a 1 ME\r\nx\r\nmg a v\r\n"),
		S("ms new 1 ME k\r\nx\r\nmg new v\r\n"),
		S("ms a 1 MA\r\nx\r\nmg a v\r\n"),
		S("ms a 1 MP F9\r\ny\r\nmg a v f\r\n"),
		S("ms a 1 MR\r\ny\r\nmg a v f\r\n"),
		S("ms a 1 MS\r\ny\r\nmg a v f\r\n"),
		S("ms none 1 MA c\r\nx\r\n"),
		S("ms none 1 MP\r\nx\r\n"),
		S("ms none 1 MR q\r\nx\r\n"),
		S("ms none 1 C5 c k\r\nx\r\n"),
		S("ms none 1 MR C5\r\nx\r\n"),
		S("ms a 1 C1\r\nx\r\n"),
		S("ms a 1 C0\r\nx\r\n"),
		S("ms a 1 Cx\r\nx\r\n"),
		S("ms a 1 MA C1\r\nx\r\n"),
		S("ms a 1 T-1\r\nx\r\nmg a v\r\n"),
		S("md a\r\n"),
		S("md a q k\r\n"),
		S("set a 7 0 1\r\nx\r\nmd a q k Oq\r\nmg a\r\n"),
		S("set a 7 0 1\r\nx\r\nmd a k Oq\r\nmg a\r\n"),
		S("set a 7 0 1\r\nx\r\nmd a C1\r\nmg a\r\n"),
		S("ms a 1 F3\r\nx\r\nmd a F5 T6\r\nmg a f v\r\n"),
		S("ms a 1 F3\r\nx\r\nmd a I F5\r\nmg a f v\r\nmd a F5x\r\nmg a f v\r\n"),
		S("ms YSBi 1 b F3\r\nx\r\nmd YSBi F5 T6 b\r\nmg YSBi b f v\r\n"),
		S("md a z\r\n"),
		S("md a b\r\n"),
		S("md\r\n"),
		S("ma\r\n"),
		S("ma a\r\n"),
		S("ma none\r\n"),
		S("ma none q k Ox\r\n"),
		S("ma none N0\r\nma none N0 J7\r\nma none v\r\n"),
		S("ma n2 N0 J7 v k Oo\r\nma n2 D3 v t\r\nma n2 MD D20 v\r\nma n2 M- v\r\nma n2 "
		  "M+\r\n"),
		S("ma n2 Mx\r\nma n2 Dx\r\nma n2 Jx\r\nma n2 MII\r\n"),
		S("ma n2 q\r\nma n2 v q\r\nmg n2 v\r\n"),
		S("ma n3 N0 J7 v q\r\nma n3 v q\r\nmg n3 v\r\n"),
		S("set a 7 0 1\r\nx\r\nma a\r\nma a q\r\n"),
		S("set a 7 0 0\r\n\r\nma a\r\n"),
		S("ms Zm9v 3 b k\r\nbar\r\nmg Zm9v b k v\r\nget foo\r\nmg foo k v\r\n"),
		S("set foo 3 0 1\r\nx\r\nmg Zm9v b k v\r\nmd Zm9v b k\r\nmg foo v\r\n"),
		S("ms YSBi 2 b T0\r\nhi\r\nmg YSBi b k v s\r\nms YSBi 1 b MA\r\n!\r\nmg YSBi b "
		  "v\r\n"),
		S("ma YSBi b\r\nmd YSBi b q\r\nma YSBi b N0 J5 v k\r\nma YSBi b v\r\n"),
		S("ms Zm9v 3 b ME k\r\nbar\r\nms Zm9v 3 b ME k\r\nbar\r\n"),
		S("mg YSBi! b\r\n"),
		S("mg YSB b\r\n"),
		S("ms YSB 1 b\r\nx\r\n"),
		S("me nothing\r\n"),
		S("me\r\n"),
		S("me nothing x\r\n"),
		S("verbosity\r\nverbosity 0\r\nverbosity x\r\nverbosity 0 noreply\r\nverbosity 0 1 "
		  "2\r\n"),
		S("cache_memlimit\r\ncache_memlimit 1\r\ncache_memlimit x\r\ncache_memlimit "
		  "64\r\n"),
		S("lru\r\nlru x\r\nlru tune 10 20 0.1 2.0\r\nlru tune 90 20 1 1\r\nlru mode x\r\n"),
		S("lru_crawler\r\nlru_crawler x\r\nlru_crawler tocrawl 5\r\nlru_crawler sleep "
		  "x\r\n"),
		S("slabs\r\nslabs automove x\r\nslabs automove 0\r\nslabs reassign 1 1\r\n"),
		S("stats reset\r\nstats detail\r\nstats detail on\r\nstats detail dump\r\n"
		  "stats detail off\r\nstats cachedump\r\nstats cachedump 1\r\nstats cachedump 99 "
		  "1\r\n"),
	};

	(void)state;
	say("flush_all\r\n");
	for (size_t i = 0; i < COUNT(inputs); i++)
		same(inputs[i]);
}

/* Stale items, and who may refresh them. */
static void wins_are_handed_out_once(void **state)
{
	static const struct mp_slice inputs[] = {
		S("ms w 1 T0\r\nx\r\nmd w I\r\nmg w v\r\nmg w v\r\nmg w v T0\r\n"),
		S("ms w 1\r\nx\r\nmd w I T90\r\nmg w v T0\r\nmg w v\r\nms w 1\r\ny\r\nmg w v\r\n"),
		S("ms w 1\r\nx\r\nmd w I\r\nadd w 0 0 1\r\nz\r\nmg w v\r\nmg w v\r\n"),
		S("ms w 1\r\nx\r\nmd w I\r\ntouch w 0\r\nmg w v\r\nmg w v\r\n"),
		S("ms w 1\r\nx\r\nmd w I\r\nmg w v N30\r\nmg w v N30\r\n"),
		S("ms w 1\r\n5\r\nmd w I\r\nma w v\r\nmg w v\r\nmg w v\r\n"),
		S("ms w 1\r\n5\r\nmd w I\r\nmg w v\r\n"),
		S("ma w v\r\nmg w v\r\n"), /* once nothing refers to the item any more */
		S("ms w 1\r\n5\r\nmd w I\r\nincr w 1\r\nms w 1 MA\r\n5\r\nmg w v\r\n"),
		S("ms w 1 T90\r\nx\r\nmg w v R30\r\nmg w v R100\r\nmg w v R100\r\nmg w v\r\n"),
		S("ms w 1 T90\r\nx\r\nmg w v R0\r\nmg w v R-1\r\nmg w R100 T200 v\r\nmg w v "
		  "R30\r\n"),
		S("ms w 1 T0\r\nx\r\nmg w v R30\r\n"),
		/* What T says counts for R if it comes first. */
		S("ms w 1 T0\r\nx\r\nmg w R5000 T1000\r\nmg w T1000 R5000\r\n"),
		S("ms w 1 T1000\r\nx\r\nmg w T100000 R5000\r\nmg w T0 R5000\r\nmg w R9 T5\r\n"),
		S("ms w 1 T1000\r\nx\r\nmg w R5000 T0 v\r\nmg w v\r\n"),
		S("mg viv1 N30 v\r\nmg viv1 N30 v\r\nmg viv1 v\r\nadd viv1 0 0 1\r\nx\r\n"
		  "ms viv1 1\r\nx\r\nmg viv1 v N30\r\n"),
		S("mg viv2 N0 t v s k Oz\r\nmg viv2 t v q\r\n"),
		S("mg dml2Mw== b N0 t v s k\r\nmg dml2Mw== b k v\r\n"),
		S("mg viv4 N-1 v\r\nmg viv4 v\r\n"),
	};

	(void)state;
	for (size_t i = 0; i < COUNT(inputs); i++)
		same(inputs[i]);
}

/* Not even R wins again what was won, whatever its deadline became. */
static void a_counter_that_was_won_stays_won(void **state)
{
	static const char *const touches[] = {
		"touch w 0\r\n",          "gat 0 w\r\n", "mg w T0\r\n", "mg w u T0\r\n",
		"mg w u T2147483647\r\n", "mn\r\n"};
	static const char *const counts[] = {"incr w 1\r\n", "ma w MD\r\n", "ma w T0 t\r\n",
					     "ma w T-1\r\n", "ma w T2147483647\r\n"};
	static const char *const reads[] = {"mg w u R5000\r\n", "mg w R5000\r\n"};

	(void)state;
	for (size_t i = 0; i < COUNT(touches) * COUNT(counts) * COUNT(reads); i++) {
		/* Each alone: memcached makes it another item while an answer refers to it. */
		say("ms w 1 T1000\r\n5\r\n");
		say(reads[i % COUNT(reads)]);
		say(touches[i / COUNT(reads) % COUNT(touches)]);
		say(counts[i / COUNT(reads) / COUNT(touches)]);
		say(counts[i / COUNT(reads) / COUNT(touches)]);
		say("mg w u h\r\n");
		say("mg w T1000 R5000\r\n");
	}
}

/* The token of a key at each of the two. */
static uint64_t token_at(struct test_client *client, const char *key)
{
	char line[300];
	int n = snprintf(line, sizeof(line), "gets %s\r\n", key);
	struct mp_slice reply = test_client_ask(client, (struct mp_slice){line, (size_t)n});
	char text[300];
	unsigned long long token = 0;

	snprintf(text, sizeof(text), "%.*s", (int)(reply.len < 299 ? reply.len : 299), reply.data);
	sscanf(text, "VALUE %*s %*u %*u %llu", &token);
	return token;
}

/* format: with one %llu for the token, which `off` is added to. */
static void with_token(const char *format, const char *key, int64_t off)
{
	char for_plain[256], for_ours[256];
	uint64_t plain = token_at(&test_mc_plain, key) + (uint64_t)off;
	uint64_t ours = token_at(&test_mc_ours, key) + (uint64_t)off;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(for_plain, sizeof(for_plain), format, (unsigned long long)plain);
	snprintf(for_ours, sizeof(for_ours), format, (unsigned long long)ours);
#pragma GCC diagnostic pop
	test_mc_compare((struct mp_slice){for_plain, strlen(for_plain)},
			(struct mp_slice){for_ours, strlen(for_ours)});
}

static void tokens_decide(void **state)
{
	static const char *const forms[] = {
		"ms t 1 C%llu\r\nx\r\nmg t v f\r\n",
		"ms t 1 C%llu I\r\ny\r\nmg t v\r\nmg t v\r\n",
		"ms t 1 MR C%llu q\r\nz\r\nmg t v\r\n",
		"ms t 1 ME C%llu\r\nx\r\nmg t v\r\n",
		"ms t 1 MA C%llu\r\nx\r\nmg t v\r\n",
		"ms t 1 MP C%llu I\r\nx\r\nmg t v\r\n",
		"md t C%llu I\r\nmg t v\r\nmg t v\r\n",
		"md t C%llu q\r\nmg t v\r\n",
		"set t 5 0 2\r\n10\r\nma t v N0\r\nmg t v\r\n",
		"cas t 6 0 1 %llu\r\nx\r\nmg t v f\r\n",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(forms); i++) {
		for (int off = -1; off <= 1; off++) {
			say("set t 5 0 1\r\n1\r\n");
			with_token(forms[i], "t", off);
		}
	}
	say("set t 5 0 2\r\n10\r\n");
	with_token("ma t v C%llu\r\n", "t", 0);
	with_token("ma t v C%llu\r\n", "t", 1);
	say("ma t v C0\r\n");
}

/* ------------------------------------------------------------------ binary */

struct frame {
	uint8_t opcode;
	const char *key;
	uint32_t flags, exptime; /* those extras that the operation has */
	uint64_t number, initial;
	const char *value;
	uint64_t cas;
};

static size_t extras_of(uint8_t opcode)
{
	switch (opcode) {
	case MC_OP_SET:
	case MC_OP_ADD:
	case MC_OP_REPLACE:
	case MC_OP_SETQ:
	case MC_OP_ADDQ:
	case MC_OP_REPLACEQ:
		return 8;
	case MC_OP_INCREMENT:
	case MC_OP_DECREMENT:
	case MC_OP_INCREMENTQ:
	case MC_OP_DECREMENTQ:
		return 20;
	case MC_OP_TOUCH:
	case MC_OP_GAT:
	case MC_OP_GATQ:
	case MC_OP_GATK:
	case MC_OP_GATKQ:
		return 4;
	default:
		return 0;
	}
}

static void put_u32(char *out, uint32_t value)
{
	value = htonl(value);
	memcpy(out, &value, sizeof(value));
}

static void put_u64(char *out, uint64_t value)
{
	value = htobe64(value);
	memcpy(out, &value, sizeof(value));
}

static size_t put_frame(char *out, const struct frame *f, uint32_t opaque)
{
	size_t extras = extras_of(f->opcode), key = f->key ? strlen(f->key) : 0;
	size_t value = f->value ? strlen(f->value) : 0;

	memset(out, 0, 24 + extras);
	out[0] = (char)0x80;
	out[1] = (char)f->opcode;
	out[2] = (char)(key >> 8);
	out[3] = (char)key;
	out[4] = (char)extras;
	put_u32(out + 8, (uint32_t)(extras + key + value));
	memcpy(out + 12, &opaque, sizeof(opaque));
	put_u64(out + 16, f->cas);
	if (extras == 8)
		put_u32(out + 24, f->flags);
	if (extras == 4 || extras == 8)
		put_u32(out + 24 + extras - 4, f->exptime);
	if (extras == 20) {
		put_u64(out + 24, f->number);
		put_u64(out + 32, f->initial);
		put_u32(out + 40, f->exptime);
	}
	if (key)
		memcpy(out + 24 + extras, f->key, key);
	if (value)
		memcpy(out + 24 + extras + key, f->value, value);
	return 24 + extras + key + value;
}

static void exchange(const struct frame *f)
{
	char out[1024];
	size_t len = put_frame(out, f, 0x01020304);

	same((struct mp_slice){out, len});
}

/*
 * Both count their items' versions alike here, as long as each store of one is
 * a store of the other: the tokens in the answers can be compared.
 */
static void begin_binary(void **state)
{
	(void)state;
	test_mc_stop(state);
	assert_int_equal(test_mc_start(state), 0);
}

static void binary_answers_are_the_servers(void **state)
{
	static const struct frame frames[] = {
		{.opcode = MC_OP_GET, .key = "none"},
		{.opcode = MC_OP_GETQ, .key = "none"},
		{.opcode = MC_OP_GETK, .key = "none"},
		{.opcode = MC_OP_GETKQ, .key = "none"},
		{.opcode = MC_OP_SET, .key = "a", .value = "abc", .flags = 0xdeadbeef},
		{.opcode = MC_OP_GET, .key = "a"},
		{.opcode = MC_OP_GETQ, .key = "a"},
		{.opcode = MC_OP_GETK, .key = "a"},
		{.opcode = MC_OP_GETKQ, .key = "a"},
		{.opcode = MC_OP_SETQ, .key = "a", .value = "abcd"},
		{.opcode = MC_OP_GET, .key = "a"},
		{.opcode = MC_OP_SET, .key = "empty", .value = ""},
		{.opcode = MC_OP_GETK, .key = "empty"},
		{.opcode = MC_OP_SET, .key = "with blank\n", .value = "v", .flags = 5},
		{.opcode = MC_OP_GETK, .key = "with blank\n"},
		{.opcode = MC_OP_GATK, .key = "with blank\n", .exptime = 100},
		{.opcode = MC_OP_TOUCH, .key = "with blank\n", .exptime = 0},
		{.opcode = MC_OP_DELETE, .key = "with blank\n"},
		{.opcode = MC_OP_GETK, .key = "with blank\n"},
		{.opcode = MC_OP_ADD, .key = "a", .value = "x"},
		{.opcode = MC_OP_ADDQ, .key = "a", .value = "x"},
		{.opcode = MC_OP_ADD, .key = "b", .value = "x"},
		{.opcode = MC_OP_ADDQ, .key = "c", .value = "x"},
		{.opcode = MC_OP_REPLACE, .key = "none", .value = "x"},
		{.opcode = MC_OP_REPLACEQ, .key = "none", .value = "x"},
		{.opcode = MC_OP_REPLACE, .key = "b", .value = "y", .flags = 3},
		{.opcode = MC_OP_REPLACEQ, .key = "b", .value = "z", .flags = 4},
		{.opcode = MC_OP_GET, .key = "b"},
		{.opcode = MC_OP_APPEND, .key = "none", .value = "x"},
		{.opcode = MC_OP_PREPENDQ, .key = "none", .value = "x"},
		{.opcode = MC_OP_APPEND, .key = "b", .value = "1"},
		{.opcode = MC_OP_PREPEND, .key = "b", .value = "2"},
		{.opcode = MC_OP_APPENDQ, .key = "b", .value = "3"},
		{.opcode = MC_OP_GET, .key = "b"},
		{.opcode = MC_OP_SET, .key = "b", .value = "x", .cas = 77},
		{.opcode = MC_OP_SET, .key = "none", .value = "x", .cas = 77},
		{.opcode = MC_OP_ADD, .key = "none", .value = "x", .cas = 77},
		{.opcode = MC_OP_REPLACE, .key = "b", .value = "x", .cas = 77},
		{.opcode = MC_OP_APPEND, .key = "b", .value = "x", .cas = 77},
		{.opcode = MC_OP_DELETE, .key = "b", .cas = 77},
		{.opcode = MC_OP_INCREMENT, .key = "b", .number = 1, .exptime = 0},
		{.opcode = MC_OP_INCREMENT, .key = "n", .number = 1, .exptime = 0xffffffff},
		{.opcode = MC_OP_INCREMENTQ, .key = "n", .number = 1, .exptime = 0xffffffff},
		{.opcode = MC_OP_INCREMENT, .key = "n", .number = 1, .initial = 1000},
		{.opcode = MC_OP_INCREMENT, .key = "n", .number = 50, .initial = 1000},
		{.opcode = MC_OP_INCREMENTQ, .key = "n", .number = 50},
		{.opcode = MC_OP_DECREMENT, .key = "n", .number = 1},
		{.opcode = MC_OP_DECREMENTQ, .key = "n", .number = 5000},
		{.opcode = MC_OP_DECREMENT, .key = "n", .number = 1},
		{.opcode = MC_OP_INCREMENT, .key = "n", .number = 1, .cas = 77},
		{.opcode = MC_OP_GET, .key = "n"},
		{.opcode = MC_OP_TOUCH, .key = "none", .exptime = 100},
		{.opcode = MC_OP_TOUCH, .key = "n", .exptime = 100},
		{.opcode = MC_OP_GAT, .key = "none", .exptime = 100},
		{.opcode = MC_OP_GATQ, .key = "none", .exptime = 100},
		{.opcode = MC_OP_GATK, .key = "none", .exptime = 100},
		{.opcode = MC_OP_GATKQ, .key = "none", .exptime = 100},
		{.opcode = MC_OP_GAT, .key = "n", .exptime = 100},
		{.opcode = MC_OP_GATQ, .key = "n", .exptime = 100},
		{.opcode = MC_OP_GATK, .key = "n", .exptime = 100},
		{.opcode = MC_OP_GATKQ, .key = "n", .exptime = 0},
		{.opcode = MC_OP_DELETE, .key = "none"},
		{.opcode = MC_OP_DELETEQ, .key = "none"},
		{.opcode = MC_OP_DELETE, .key = "n"},
		{.opcode = MC_OP_DELETEQ, .key = "a"},
		{.opcode = MC_OP_GET, .key = "a"},
		{.opcode = MC_OP_FLUSH},
		{.opcode = MC_OP_FLUSHQ},
		{.opcode = MC_OP_GET, .key = "b"},
	};

	begin_binary(state);
	for (size_t i = 0; i < COUNT(frames); i++)
		exchange(&frames[i]);
	test_mc_reconnect();
}

/* What is wrong with a frame is said in it; the connection goes on if it can. */
static void wrong_frames(void **state)
{
	static const struct {
		struct mp_slice frame;
		enum mc_result result;
		uint16_t status;
	} cases[] = {
		{S("\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		   "abcd\0\0\0\0\0\0\0\0"),
		 MC_FATAL, MC_STATUS_INVALID}, /* get without a key */
		{S("\x80\x0a\x00\x00\x04\x00\x00\x00\x00\x00\x00\x04"
		   "abcd\0\0\0\0\0\0\0\0wxyz"),
		 MC_FATAL, MC_STATUS_INVALID}, /* noop with extras */
		{S("\x80\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01"
		   "abcd\0\0\0\0\0\0\0\0k"),
		 MC_FATAL, MC_STATUS_UNKNOWN_COMMAND}, /* a key longer than the body */
		{S("\x80\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00"
		   "abcd\0\0\0\0\0\0\0\0k"),
		 MC_FATAL, MC_STATUS_INVALID}, /* a key of 256 bytes */
		{S("\x80\x44\x00\x02\x00\x00\x00\x00\x00\x00\x00\x05"
		   "abcd\0\0\0\0\0\0\0\0kk123"),
		 MC_BAD, MC_STATUS_UNKNOWN_COMMAND}, /* no such operation */
		{S("\x80\x10\x00\x02\x00\x00\x00\x00\x00\x00\x00\x02"
		   "abcd\0\0\0\0\0\0\0\0\r\n"),
		 MC_BAD, MC_STATUS_NOT_FOUND}, /* stats of a line end */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mc_parser *p = mc_parser_new(&test_mc_limits);
		struct mp_slice answer;
		struct mc_request r;
		size_t used;

		assert_int_equal(mc_parse(p, cases[i].frame.data, cases[i].frame.len, &used, &r),
				 cases[i].result);
		if (cases[i].result == MC_BAD)
			assert_int_equal(used, cases[i].frame.len);
		answer = mc_parser_answer(p);
		assert_true(answer.len >= 24 && (unsigned char)answer.data[0] == 0x81);
		assert_int_equal(answer.data[1], cases[i].frame.data[1]);
		assert_int_equal((unsigned char)answer.data[7], cases[i].status);
		assert_memory_equal(answer.data + 12, "abcd", 4);
		mc_parser_free(p);
	}
}

/* A value above the limit is passed over as it comes, and what it was to replace goes. */
static void large_frames_are_swallowed(void **state)
{
	const struct mc_limits small = {.max_value_bytes = 8, .max_line_bytes = 2048};
	struct frame set = {.opcode = MC_OP_SETQ, .key = "a b", .value = "123456789"};
	struct frame noop = {.opcode = MC_OP_NOOP};
	struct mc_parser *p = mc_parser_new(&small);
	struct mc_request r;
	char bytes[256];
	size_t len, used, pos = 0;

	(void)state;
	len = put_frame(bytes, &set, 1);
	len += put_frame(bytes + len, &noop, 2);
	assert_int_equal(mc_parse(p, bytes, len - 30, &used, &r), MC_DONE);
	pos += used;
	assert_true(used > 0);
	assert_int_equal(r.verb, MC_DELETE);
	assert_true(r.noreply && r.key_is_base64 && r.keys[0].len == 3);
	assert_memory_equal(r.raw.data, "md YSBi b\r\n", r.raw.len);
	assert_int_equal(mc_parse(p, bytes + pos, len - pos, &used, &r), MC_BAD);
	pos += used;
	assert_int_equal((unsigned char)mc_parser_answer(p).data[7], MC_STATUS_TOO_LARGE);
	assert_int_equal(mc_parse(p, bytes + pos, len - pos, &used, &r), MC_DONE);
	assert_int_equal(r.verb, MC_NOOP);
	assert_int_equal(pos + used, len);
	mc_parser_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(meta_answers_are_the_servers),
		cmocka_unit_test(wins_are_handed_out_once),
		cmocka_unit_test(a_counter_that_was_won_stays_won),
		cmocka_unit_test(tokens_decide),
		cmocka_unit_test(binary_answers_are_the_servers),
		cmocka_unit_test(wrong_frames),
		cmocka_unit_test(large_frames_are_swallowed),
	};

	return cmocka_run_group_tests(tests, test_mc_start, test_mc_stop);
}
