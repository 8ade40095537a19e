/*
 * test_conf.c - configuration files: muproxy.conf.example says the truth about
 * every key and default, and whatever is wrong with a file is told in one line
 * that names the line.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"

#define KEY_LINE "key = 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"
#define REPLICA "[replica]\nid = 1\ngroup = g\nmemory-dir = /dev/shm/x\n" KEY_LINE
#define MEMBER "[member 1]\npeer = unix:/tmp/p1\n"
#define PLACE(id) "[member " #id "]\naddress = 10.0.0." #id ":7400\n"
#define REDIS "[redis]\nlisten = 127.0.0.1:7101\nbackend = unix:/tmp/r\n"
#define MINIMAL REPLICA MEMBER REDIS

static char test_dir[64];

static const char *write_file(const char *name, const char *text)
{
	static char path[128];
	FILE *out;

	snprintf(path, sizeof(path), "%s/%s", test_dir, name);
	out = fopen(path, "w");
	assert_non_null(out);
	assert_int_equal(fputs(text, out) < 0, 0);
	assert_int_equal(fclose(out), 0);
	return path;
}

static int make_dir(void **state)
{
	(void)state;
	snprintf(test_dir, sizeof(test_dir), "/tmp/muproxy-conf-XXXXXX");
	return mkdtemp(test_dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = {"x.conf", "key", "example.conf"};
	char path[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", test_dir, names[i]);
		unlink(path);
	}
	return rmdir(test_dir);
}

static char *read_example(void)
{
	const char *source = getenv("srcdir");
	char path[512], *text = calloc(1, 65536);
	FILE *in;

	snprintf(path, sizeof(path), "%s/muproxy.conf.example", source ? source : ".");
	in = fopen(path, "r");
	assert_non_null(in);
	assert_true(fread(text, 1, 65535, in) > 0);
	fclose(in);
	return text;
}

/* Whether the text has a line "key = ..." in the section, commented or not. */
static bool documents(const char *text, const char *section, const char *key)
{
	char head[64], plain[64], comment[64];
	const char *line;
	bool inside = false;

	snprintf(head, sizeof(head), "[%s]", section);
	snprintf(plain, sizeof(plain), "%s = ", key);
	snprintf(comment, sizeof(comment), "#%s = ", key);
	for (line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (*line == '[')
			inside = strncmp(line, head, strlen(head)) == 0;
		else if (inside && (strncmp(line, plain, strlen(plain)) == 0 ||
				    strncmp(line, comment, strlen(comment)) == 0))
			return true;
	}
	return false;
}

static void example_is_valid(void **state)
{
	char *text = read_example(), err[800] = "";
	struct conf conf;

	(void)state;
	if (conf_load(&conf, write_file("example.conf", text), err, sizeof(err)) < 0)
		fail_msg("%s", err);
	conf_free(&conf);
	free(text);
}

static void example_documents_every_key(void **state)
{
	char *text = read_example();
	const char *section, *key;
	size_t i;

	(void)state;
	for (i = 0; conf_setting(i, &section, &key); i++) {
		/* The other way to give the key, and to know the others: told of in comments. */
		if (strcmp(key, "key-file") == 0)
			assert_non_null(strstr(text, "key-file = "));
		else if (strcmp(key, "join") == 0)
			assert_non_null(strstr(text, "join = "));
		else if (!documents(text, section, key))
			fail_msg("[%s] %s is not in muproxy.conf.example", section, key);
	}
	assert_true(i > 20);
	free(text);
}

/* Take the '#' away from every "#key = value", but for a file that would have to be there. */
static void uncomment(char *text)
{
	char *from = text, *to = text;

	while (*from) {
		size_t n = strcspn(from, "\n");

		n += from[n] == '\n';
		if (from[0] == '#' && from[1] >= 'a' && from[1] <= 'z' &&
		    strncmp(from, "#auth-file", 10) != 0) {
			from++;
			n--;
		}
		memmove(to, from, n);
		to += n;
		from += n;
	}
	*to = '\0';
}

/* Every default that the example shows is the default. */
static void example_tells_the_defaults(void **state)
{
	char *text = read_example(), err[800] = "", shown[300], real[300];
	struct conf with_defaults, with_example;
	const char *section, *key;
	size_t i;

	(void)state;
	assert_int_equal(conf_load(&with_defaults, write_file("x.conf", text), err, sizeof(err)),
			 0);
	uncomment(text);
	if (conf_load(&with_example, write_file("x.conf", text), err, sizeof(err)) < 0)
		fail_msg("%s", err);
	for (i = 0; conf_setting(i, &section, &key); i++) {
		/* What cannot stand beside the rest is told of in words. */
		if (strcmp(key, "key-file") == 0 || strcmp(key, "join") == 0)
			continue;
		/* These have no default: the example's value is an example. */
		if (strcmp(key, "pid-file") == 0 || strcmp(key, "password") == 0 ||
		    strncmp(key, "seed", 4) == 0 || strcmp(key, "peer-listen") == 0 ||
		    strcmp(key, "state-file") == 0 || strcmp(key, "device") == 0 ||
		    strcmp(key, "auth-file") == 0) {
			conf_print(&with_defaults, i, real, sizeof(real));
			assert_string_equal(real, "-");
			continue;
		}
		assert_non_null(with_example.given[i]);
		conf_print(&with_defaults, i, real, sizeof(real));
		conf_print(&with_example, i, shown, sizeof(shown));
		if (strcmp(real, shown) != 0)
			fail_msg("[%s] %s: the example says %s, the default is %s", section, key,
				 shown, real);
	}
	conf_free(&with_defaults);
	conf_free(&with_example);
	free(text);
}

static void values_arrive(void **state)
{
	char err[800] = "";
	struct conf conf;

	(void)state;
	if (conf_load(&conf,
		      write_file("x.conf",
				 REPLICA "ring-size = 16M\nlog-level = debug\nwait = spin\n" MEMBER
					 "[member 3]\npeer = 127.0.0.1:7003\n" REDIS
					 "password = a b #c\n[memcached]\n"
					 "listen = 127.0.0.1:7201\nbackend = 127.0.0.1:11211\n"
					 "[limits]\nmax-request = 100K\nmax-clients = 7\n"
					 "[timing]\ntick = 500us\nhold-timeout = 2s\n"
					 "score-max = 30\nscore-failed = 3\nscore-alive = 9\n"
					 "score-gain = 4\nscore-loss = 2\n"),
		      err, sizeof(err)) < 0)
		fail_msg("%s", err);
	assert_int_equal(conf.mu.id, 1);
	assert_int_equal(conf.mu.member_mask, 1 << 1 | 1 << 3);
	assert_int_equal(conf.mu.ring_bytes, 16 << 20);
	assert_int_equal(conf.mu.max_proposal_bytes, 4 << 20);
	assert_int_equal(conf.key[1], 0x11);
	assert_int_equal(conf.key[31], 0xff);
	assert_int_equal(conf.mu.tick_ns, 500000);
	assert_int_equal(conf.mu.score_max, 30);
	assert_int_equal(conf.mu.score_failed, 3);
	assert_int_equal(conf.mu.score_alive, 9);
	assert_int_equal(conf.mu.score_gain, 4);
	assert_int_equal(conf.mu.score_loss, 2);
	assert_int_equal(conf.proxy.hold_timeout_ms, 2000);
	assert_int_equal(conf.proxy.max_request_bytes, 100 << 10);
	assert_int_equal(conf.proxy.max_clients, 7);
	assert_string_equal(conf.proxy.redis_password, "a b #c");
	assert_string_equal(conf.proxy.peer_address[3], "127.0.0.1:7003");
	assert_string_equal(conf.proxy.memcached_backend, "127.0.0.1:11211");
	assert_null(conf.proxy.peer_address[2]);
	assert_int_equal(conf.proxy.id, 1);
	assert_true(conf.mu.group_id != 0 && conf.mu.group_id == conf.proxy.group_id);
	assert_int_equal(conf.wait, CONF_WAIT_SPIN);
	assert_null(conf.admin_listen);
	conf_free(&conf);
}

/* Limits that were not given follow a smaller ring. */
static void limits_fit_a_small_ring(void **state)
{
	char err[800] = "";
	struct conf conf;

	(void)state;
	if (conf_load(&conf, write_file("x.conf", REPLICA "ring-size = 1M\n" MEMBER REDIS), err,
		      sizeof(err)) < 0)
		fail_msg("%s", err);
	assert_true(conf.proxy.max_request_bytes < conf.mu.ring_bytes / 4);
	assert_true(conf.proxy.max_batch_bytes <= conf.mu.ring_bytes / 4);
	conf_free(&conf);
}

static uint64_t group_number(const char *text)
{
	char err[800] = "";
	struct conf conf;
	uint64_t number;

	if (conf_load(&conf, write_file("x.conf", text), err, sizeof(err)) < 0)
		fail_msg("%s", err);
	number = conf.mu.group_id;
	conf_free(&conf);
	return number;
}

/* Another name or another secret is another group. */
static void group_is_name_and_key(void **state)
{
	char other_key[1000];

	(void)state;
	snprintf(other_key, sizeof(other_key), "%s", MINIMAL);
	memcpy(strstr(other_key, "0011"), "1011", 4);
	assert_true(group_number(MINIMAL) == group_number(MINIMAL));
	assert_true(group_number(MINIMAL) != group_number(other_key));
	assert_true(
		group_number(MINIMAL) !=
		group_number(
			"[replica]\nid = 1\ngroup = h\nmemory-dir = /x\n" KEY_LINE MEMBER REDIS));
}

/* What travels in clear is made with keys that tell nothing of each other. */
static void each_use_has_a_key(void **state)
{
	char err[800] = "";
	struct conf conf;

	(void)state;
	if (conf_load(&conf, write_file("x.conf", MINIMAL), err, sizeof(err)) < 0)
		fail_msg("%s", err);
	assert_memory_not_equal(conf.mu.checksum_key, conf.key, sizeof(conf.key));
	assert_memory_not_equal(conf.peering_key, conf.key, sizeof(conf.key));
	assert_memory_not_equal(conf.peering_key, conf.mu.checksum_key, sizeof(conf.key));
	assert_memory_not_equal(&conf.mu.group_id, conf.mu.checksum_key, sizeof(conf.mu.group_id));
	assert_memory_not_equal(&conf.mu.group_id, conf.peering_key, sizeof(conf.mu.group_id));
	conf_free(&conf);
}

/* On several hosts members have addresses, and names are not looked up here. */
static void members_on_several_hosts(void **state)
{
	char err[800] = "";
	struct conf conf;

	(void)state;
	if (conf_load(&conf,
		      write_file("x.conf",
				 REPLICA "fabric = tcp\npeer-listen = 0.0.0.0:7400\n"
					 "[member 1]\naddress = [fd00::1]:7400\n"
					 "[member 2]\naddress = no-such-host.invalid:7400\n" REDIS),
		      err, sizeof(err)) < 0)
		fail_msg("%s", err);
	assert_int_equal(conf.fabric, CONF_FABRIC_TCP);
	assert_int_equal(conf.mu.member_mask, 1 << 1 | 1 << 2);
	assert_string_equal(conf.member[2], "no-such-host.invalid:7400");
	assert_string_equal(conf.peer_listen, "0.0.0.0:7400");
	conf_free(&conf);
}

static void key_from_a_file(void **state)
{
	char text[400], path[128], err[800] = "";
	struct conf conf;

	(void)state;
	snprintf(path, sizeof(path), "%s",
		 write_file("key",
			    "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"));
	snprintf(text, sizeof(text),
		 "[replica]\nid = 1\ngroup = g\nmemory-dir = /x\nkey-file = %s\n" MEMBER REDIS,
		 path);
	if (conf_load(&conf, write_file("x.conf", text), err, sizeof(err)) < 0)
		fail_msg("%s", err);
	assert_int_equal(conf.key[0], 0xff);
	conf_free(&conf);
}

struct wrong {
	const char *text;
	int line;
	const char *words;
};

static const struct wrong wrongs[] = {
	{MINIMAL "[limits]\nmax-cliens = 3\n", 12, "unknown key 'max-cliens' in [limits]"},
	{MINIMAL "[nonsense]\n", 11, "unknown section [nonsense]"},
	{MINIMAL "[member 8]\npeer = unix:/x\n", 11, "[member 1] to [member 7]"},
	{MINIMAL "[member x]\n", 11, "[member 1] to [member 7]"},
	{MINIMAL "[member 2]\npier = unix:/x\n", 12, "unknown key 'pier' in [member 2]"},
	{MINIMAL "[member 2]\npeer = unix:/x\npeer = unix:/y\n", 13, "given twice"},
	{MINIMAL "[member 2]\npeer = unix:/x\naddress = a:1\n", 13, "given twice"},
	{REPLICA "fabric = tcp\n" MEMBER REDIS, 8, "has an address, not a peer"},
	{MINIMAL "[member 2]\naddress = a:1\n", 12, "all members have a peer, or all"},
	{MINIMAL "[member 2]\naddress = unix:/x\n", 12, "is not host:port"},
	{MINIMAL "[member 2]\naddress = :7\n", 12, "is not host:port"},
	{MINIMAL "[member 2]\naddress = a:0\n", 12, "is not host:port"},
	{MINIMAL "[limits]\nmax-clients = 10q\n", 12, "not a whole number"},
	{MINIMAL "[limits]\nmax-clients = 0\n", 12, "not between 1 and 1000000"},
	{MINIMAL "[limits]\nmax-clients = -1\n", 12, "not a whole number"},
	{MINIMAL "[limits]\nmax-clients = 99999999999999999999\n", 12, "not a whole number"},
	{MINIMAL "[limits]\nmax-clients =\n", 12, "not a whole number"},
	{MINIMAL "[limits]\nmax-request = 10T\n", 12, "not a number of bytes"},
	{MINIMAL "[limits]\nmax-request = 1G\n", 12, "with this ring-size"},
	{MINIMAL "[limits]\nmax-request = 1K # small\n", 12, "comment needs a line of its own"},
	{MINIMAL "[timing]\ntick = 1\n", 12, "with its unit"},
	{MINIMAL "[timing]\ntick = 1h\n", 12, "with its unit"},
	{MINIMAL "[timing]\ntick = 10s\n", 12, "not between"},
	{MINIMAL "[timing]\nhold-timeout = 1500us\n", 12, "whole number of milliseconds"},
	{MINIMAL "[timing]\ntick = 1ms\ntick = 1ms\n", 13, "'tick' is given twice"},
	{MINIMAL "[timing]\nscore-failed = 0\n", 12, "not between 1 and 999"},
	{MINIMAL "[timing]\nscore-failed = 7\n", 12, "may not be above score-alive (6)"},
	{MINIMAL "[timing]\nscore-max = 6\ntick = 1ms\n", 12, "nor that reach score-max (6)"},
	{MINIMAL "[timing]\nscore-loss = 16\n", 12, "may not be above score-max (15)"},
	{MINIMAL "[admin]\nlisten = 127.0.0.1\n", 12, "listen: "},
	{MINIMAL "[admin]\nlisten = 127.0.0.1:99999\n", 12, "listen: "},
	{MINIMAL "[admin]\nlisten = unix:/tmp/x\n", 12, "is not host:port"},
	{MINIMAL "[memcached]\nlisten = 127.0.0.1:1\n", 12, "has a listen but no backend"},
	{MINIMAL "just words\n", 11, "neither a [section] nor"},
	{MINIMAL "[admin\nlisten = 127.0.0.1:1\n", 11, "not a [section]"},
	{REPLICA "ring-size = 100000000\n" MEMBER REDIS, 6, "not a power of two"},
	{REPLICA "ring-size = 4K\n" MEMBER REDIS, 6, "not between"},
	{REPLICA "fabric = ethernet\n" MEMBER REDIS, 6, "is not one of: shm"},
	{REPLICA "log-level = loud\n" MEMBER REDIS, 6, "is not one of: error warn info debug"},
	{REPLICA "key-file = /nowhere/key\n" MEMBER REDIS, 6, "both given"},
	{"id = 1\n" MINIMAL, 1, "before any [section]"},
	{REPLICA MEMBER, 7, "nothing to serve"},
	{REPLICA REDIS, 2, "there is no [member 1] section"},
	{"[replica]\nid = 9\n", 2, "not between 1 and 7"},
	{"[replica]\ngroup = g\n", 2, "[replica] id is missing"},
	{"[replica]\nid = 1\ngroup =\n", 3, "group: no value"},
	{"[replica]\nid = 1\ngroup = g\nmemory-dir = /x\n", 4, "key (or key-file) is missing"},
	{"[replica]\nid = 1\ngroup = g\nmemory-dir = /x\nkey = 12345\n", 5,
	 "not 64 hexadecimal digits"},
	{"[replica]\nid = 1\ngroup = g\nmemory-dir = /x\nkey-file = /nowhere/key\n", 5,
	 "No such file"},
	{REPLICA "join = 10.0.0.1\n" MEMBER REDIS, 6, "'10.0.0.1' is not host:port"},
	{REPLICA "join = 10.0.0.1:7400, unix:/x\n" MEMBER REDIS, 6, "'unix:/x' is not host:port"},
	{REPLICA "join = 10.0.0.1:7400\n" MEMBER REDIS, 6, "with a peer never change"},
	{REPLICA "state-file = /x\njoin = 10.0.0.1:7400\n" PLACE(1) PLACE(2) REDIS, 7,
	 "no [member] sections but the own one"},
	{REPLICA "fabric = tcp\njoin = 10.0.0.1:7400\n" PLACE(1) REDIS, 7,
	 "has to be a state-file"},
	{REPLICA "fabric = tcp\nstate-file = /x\njoin = 10.0.0.1:7400\n" PLACE(1) PLACE(2) REDIS, 8,
	 "no [member] sections but the own one"},
	{REPLICA "fabric = tcp\n[member 1]\naddress = a b:1\n" REDIS, 8, "is not host:port"},
	{"", 1, "[replica] id is missing"},
};

static void what_is_wrong_is_told(void **state)
{
	char err[800], expected[200];
	const char *path;
	struct conf conf;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		path = write_file("x.conf", wrongs[i].text);
		err[0] = '\0';
		if (conf_load(&conf, path, err, sizeof(err)) == 0)
			fail_msg("accepted: %s", wrongs[i].text);
		snprintf(expected, sizeof(expected), "%s:%d: ", path, wrongs[i].line);
		if (strncmp(err, expected, strlen(expected)) != 0 || strchr(err, '\n') ||
		    !strstr(err, wrongs[i].words))
			fail_msg("'%s' instead of '%s...%s' for:\n%s", err, expected,
				 wrongs[i].words, wrongs[i].text);
		conf_free(&conf);
	}
}

static void long_lines_are_told(void **state)
{
	char text[600], err[800] = "";
	struct conf conf;

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text, "[replica]\ngroup = ", 18);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(conf_load(&conf, write_file("x.conf", text), err, sizeof(err)), -1);
	assert_non_null(strstr(err, "x.conf:2: a line of more than"));
	conf_free(&conf);
}

static void missing_files_are_told(void **state)
{
	char err[800] = "";
	struct conf conf;

	(void)state;
	assert_int_equal(conf_load(&conf, "/nowhere/x.conf", err, sizeof(err)), -1);
	assert_string_equal(err, "/nowhere/x.conf: No such file or directory");
	conf_free(&conf);
	assert_int_equal(conf_load(&conf, test_dir, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "directory"));
	conf_free(&conf);
}

/* Another layer's words lead back to the line they are about. */
static void blame_finds_the_line(void **state)
{
	char err[800] = "";
	struct conf conf;

	(void)state;
	assert_int_equal(conf_load(&conf, write_file("x.conf", MINIMAL), err, sizeof(err)), 0);
	assert_int_equal(conf_blame(&conf, "redis-listen 127.0.0.1:7101: in use", "listen"), 9);
	assert_int_equal(conf_blame(&conf, "cannot bind unix:/tmp/p1", "listen"), 7);
	assert_int_equal(conf_blame(&conf, "no words at all", "group"), 3);
	assert_int_equal(conf_blame(&conf, "no words at all", "pid-file"), 10);
	conf_free(&conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(example_is_valid),
		cmocka_unit_test(example_documents_every_key),
		cmocka_unit_test(example_tells_the_defaults),
		cmocka_unit_test(values_arrive),
		cmocka_unit_test(limits_fit_a_small_ring),
		cmocka_unit_test(group_is_name_and_key),
		cmocka_unit_test(each_use_has_a_key),
		cmocka_unit_test(members_on_several_hosts),
		cmocka_unit_test(key_from_a_file),
		cmocka_unit_test(what_is_wrong_is_told),
		cmocka_unit_test(long_lines_are_told),
		cmocka_unit_test(missing_files_are_told),
		cmocka_unit_test(blame_finds_the_line),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
