/* conf_table.c - see conf_table.h. */
#include "config.h"

#include "conf_table.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "conf_value.h"
#include "digest.h"
#include "net.h"

static const char *const log_words[] = {"error", "warn", "info", "debug", NULL};
static const char *const read_words[] = {"linearizable", "local", NULL};
static const char *const wait_words[] = {"adaptive", "spin", NULL};
static const char *const fabric_words[] = {"shm", "tcp", "auto", "verbs", NULL};
static const char *const barrier_words[] = {"strict", "none", NULL};

#define AT(field) offsetof(struct conf, field)
#define MS(n) (n)
#define NS_MS(n) ((n)*1000000ULL)

const struct conf_setting conf_settings[] = {
	{"replica", "id", CONF_COUNT, AT(mu.id), 1, MU_MAX_REPLICAS, NULL},
	{"replica", "group", CONF_TEXT, AT(group), 0, 0, NULL},
	{"replica", "key", CONF_KEY, AT(key_hex), 0, 0, NULL},
	{"replica", "key-file", CONF_TEXT, AT(key_file), 0, 0, NULL},
	{"replica", "fabric", CONF_WORD, AT(fabric), 0, 0, fabric_words},
	{"replica", "peer-listen", CONF_TCP, AT(peer_listen), 0, 0, NULL},
	{"replica", "memory-dir", CONF_TEXT, AT(memory_dir), 0, 0, NULL},
	{"replica", "ring-size", CONF_POWER, AT(mu.ring_bytes), 1 << 20, 1ULL << 40, NULL},
	{"replica", "state-file", CONF_TEXT, AT(state_file), 0, 0, NULL},
	{"replica", "join", CONF_TEXT, AT(join), 0, 0, NULL},
	{"replica", "pid-file", CONF_TEXT, AT(pid_file), 0, 0, NULL},
	{"replica", "log-level", CONF_WORD, AT(log_level), 0, 0, log_words},
	{"replica", "wait", CONF_WORD, AT(wait), 0, 0, wait_words},

	{"verbs", "device", CONF_TEXT, AT(verbs_device), 0, 0, NULL},
	{"verbs", "port", CONF_CHOICE, AT(verbs_port), 1, 255, NULL},
	{"verbs", "gid-index", CONF_CHOICE, AT(verbs_gid_index), 0, 255, NULL},
	{"verbs", "service-level", CONF_COUNT, AT(verbs_service_level), 0, 15, NULL},
	{"verbs", "traffic-class", CONF_COUNT, AT(verbs_traffic_class), 0, 255, NULL},
	{"verbs", "pkey-index", CONF_COUNT, AT(verbs_pkey_index), 0, 65535, NULL},
	{"verbs", "barrier", CONF_WORD, AT(verbs_barrier), 0, 0, barrier_words},
	{"verbs", "transport-timeout", CONF_CHOICE, AT(verbs_timeout), 1, 31, NULL},
	{"verbs", "transport-retries", CONF_CHOICE, AT(verbs_retries), 0, 6, NULL},

	{"redis", "listen", CONF_TCP, AT(proxy.redis_listen), 0, 0, NULL},
	{"redis", "backend", CONF_ADDRESS, AT(proxy.redis_backend), 0, 0, NULL},
	{"redis", "read-mode", CONF_WORD, AT(proxy.read_mode), 0, 0, read_words},
	{"redis", "password", CONF_TEXT, AT(proxy.redis_password), 0, 0, NULL},
	{"redis", "auth-file", CONF_TEXT, AT(redis_auth_file), 0, 0, NULL},
	{"redis", "seed", CONF_TCP, AT(proxy.redis_seed), 0, 0, NULL},
	{"redis", "seed-user", CONF_TEXT, AT(proxy.redis_seed_user), 0, 0, NULL},
	{"redis", "seed-password", CONF_TEXT, AT(proxy.redis_seed_password), 0, 0, NULL},
	{"redis", "digest-interval", CONF_MS, AT(proxy.digest_interval_ms), MS(0), MS(86400000),
	 NULL},
	{"redis", "digest-keys", CONF_COUNT, AT(proxy.digest_keys), 1, MP_DIGEST_KEYS_MAX, NULL},
	{"memcached", "listen", CONF_TCP, AT(proxy.memcached_listen), 0, 0, NULL},
	{"memcached", "backend", CONF_ADDRESS, AT(proxy.memcached_backend), 0, 0, NULL},
	{"memcached", "digest-interval", CONF_MS, AT(proxy.memcached_digest_interval_ms), MS(0),
	 MS(86400000), NULL},
	{"memcached", "digest-keys", CONF_COUNT, AT(proxy.memcached_digest_keys), 1,
	 MP_DIGEST_KEYS_MAX, NULL},
	{"memcached", "seed", CONF_TCP, AT(proxy.memcached_seed), 0, 0, NULL},
	{"memcached", "auth-file", CONF_TEXT, AT(memcached_auth_file), 0, 0, NULL},
	{"admin", "listen", CONF_TCP, AT(admin_listen), 0, 0, NULL},

	{"limits", "max-request", CONF_BYTES, AT(proxy.max_request_bytes), 4096, 1ULL << 38, NULL},
	{"limits", "max-batch", CONF_BYTES, AT(proxy.max_batch_bytes), 4096, 1ULL << 38, NULL},
	{"limits", "max-entry", CONF_BYTES32, AT(mu.max_entry_bytes), 1024, 1ULL << 30, NULL},
	{"limits", "max-clients", CONF_COUNT, AT(proxy.max_clients), 1, 1000000, NULL},
	{"limits", "client-output", CONF_BYTES, AT(proxy.client_output_bytes), 65536, 1ULL << 38,
	 NULL},
	{"limits", "spill-directory", CONF_TEXT, AT(proxy.spill_directory), 0, 0, NULL},
	{"limits", "max-spill", CONF_BYTES, AT(proxy.max_spill_bytes), 0, 1ULL << 48, NULL},
	{"limits", "max-held", CONF_BYTES, AT(proxy.max_held_bytes), 65536, 1ULL << 38, NULL},

	{"timing", "tick", CONF_NS, AT(mu.tick_ns), 10000, NS_MS(1000), NULL},
	{"timing", "score-max", CONF_COUNT, AT(mu.score_max), 2, 1000, NULL},
	{"timing", "score-failed", CONF_COUNT, AT(mu.score_failed), 1, 999, NULL},
	{"timing", "score-alive", CONF_COUNT, AT(mu.score_alive), 1, 999, NULL},
	{"timing", "score-gain", CONF_COUNT, AT(mu.score_gain), 1, 1000, NULL},
	{"timing", "score-loss", CONF_COUNT, AT(mu.score_loss), 1, 1000, NULL},
	{"timing", "data-stall", CONF_NS, AT(mu.data_stall_ns), NS_MS(1), NS_MS(60000), NULL},
	{"timing", "takeover-timeout", CONF_NS, AT(mu.takeover_timeout_ns), NS_MS(1), NS_MS(60000),
	 NULL},
	{"timing", "op-timeout", CONF_NS, AT(op_timeout_ns), NS_MS(1), NS_MS(60000), NULL},
	{"timing", "hold-timeout", CONF_MS, AT(proxy.hold_timeout_ms), MS(1), MS(3600000), NULL},
	{"timing", "unknown-timeout", CONF_MS, AT(proxy.unknown_timeout_ms), MS(1), MS(3600000),
	 NULL},
	{"timing", "backend-timeout", CONF_MS, AT(proxy.backend_timeout_ms), MS(10), MS(3600000),
	 NULL},
	{"timing", "idle-timeout", CONF_MS, AT(proxy.idle_timeout_ms), MS(0), MS(86400000), NULL},
	{"timing", "drain-timeout", CONF_MS, AT(drain_timeout_ms), MS(0), MS(600000), NULL},
	{"timing", "spin", CONF_NS, AT(spin_ns), 0, NS_MS(1000), NULL},
};
const size_t conf_setting_count = sizeof(conf_settings) / sizeof(conf_settings[0]);
static_assert(sizeof(conf_settings) / sizeof(conf_settings[0]) <= CONF_MAX_SETTINGS, "arrays");

size_t conf_find(const char *section, const char *key)
{
	size_t i;

	for (i = 0; i < conf_setting_count; i++) {
		if (strcmp(section, conf_settings[i].section) == 0 &&
		    strcmp(key, conf_settings[i].key) == 0)
			break;
	}
	return i;
}

bool conf_section_known(const char *section)
{
	size_t i;

	for (i = 0; i < conf_setting_count; i++) {
		if (strcmp(section, conf_settings[i].section) == 0)
			return true;
	}
	return false;
}

static bool is_text(enum conf_kind kind)
{
	return kind == CONF_TEXT || kind == CONF_ADDRESS || kind == CONF_TCP || kind == CONF_KEY;
}

static bool set_text(struct conf *conf, const struct conf_setting *setting, const char *text,
		     char *err, size_t err_bytes)
{
	struct mp_address address;

	if (text[0] == '\0') {
		snprintf(err, err_bytes, "no value");
		return false;
	}
	if (setting->kind == CONF_TCP && strncmp(text, "unix:", 5) == 0) {
		snprintf(err, err_bytes, "'%s' is not host:port", text);
		return false;
	}
	if ((setting->kind == CONF_ADDRESS || setting->kind == CONF_TCP) &&
	    !mp_address_parse(text, &address, err, err_bytes))
		return false;
	if (setting->kind == CONF_KEY && !conf_parse_key(text, conf->key, err, err_bytes))
		return false;
	memcpy((char *)conf + setting->offset, &text, sizeof(text));
	return true;
}

static bool parse_number(const struct conf_setting *setting, const char *text, uint64_t *number,
			 char *err, size_t err_bytes)
{
	switch (setting->kind) {
	case CONF_CHOICE:
		*number = CONF_AUTO;
		if (strcmp(text, "auto") == 0)
			return true;
		/* fall through */
	case CONF_COUNT:
		return conf_parse_count(text, number, err, err_bytes);
	case CONF_BYTES32:
	case CONF_BYTES:
	case CONF_POWER:
		return conf_parse_bytes(text, number, err, err_bytes);
	case CONF_WORD:
		return conf_parse_word(text, setting->words, number, err, err_bytes);
	case CONF_MS:
		if (!conf_parse_ns(text, number, err, err_bytes))
			return false;
		if (*number % 1000000) {
			snprintf(err, err_bytes, "'%s' is not a whole number of milliseconds",
				 text);
			return false;
		}
		*number /= 1000000;
		return true;
	default:
		return conf_parse_ns(text, number, err, err_bytes);
	}
}

static const char *unit_of(enum conf_kind kind)
{
	switch (kind) {
	case CONF_BYTES:
	case CONF_BYTES32:
	case CONF_POWER:
		return " bytes";
	case CONF_NS:
		return " ns";
	case CONF_MS:
		return " ms";
	default:
		return "";
	}
}

static bool is_wide(enum conf_kind kind)
{
	return kind == CONF_BYTES || kind == CONF_POWER || kind == CONF_NS;
}

bool conf_set(struct conf *conf, size_t i, const char *text, char *err, size_t err_bytes)
{
	const struct conf_setting *setting = &conf_settings[i];
	const char *unit = unit_of(setting->kind);
	uint64_t number;
	uint32_t narrow;

	assert(i < conf_setting_count);
	if (is_text(setting->kind))
		return set_text(conf, setting, text, err, err_bytes);
	if (!parse_number(setting, text, &number, err, err_bytes))
		return false;
	if (!setting->words && !(setting->kind == CONF_CHOICE && number == CONF_AUTO) &&
	    (number < setting->least || number > setting->most)) {
		snprintf(err, err_bytes, "'%s' is not between %" PRIu64 " and %" PRIu64 "%s", text,
			 setting->least, setting->most, unit);
		return false;
	}
	if (setting->kind == CONF_POWER && (number & (number - 1))) {
		snprintf(err, err_bytes, "'%s' is not a power of two", text);
		return false;
	}
	narrow = (uint32_t)number;
	if (is_wide(setting->kind))
		memcpy((char *)conf + setting->offset, &number, sizeof(number));
	else
		memcpy((char *)conf + setting->offset, &narrow, sizeof(narrow));
	return true;
}

bool conf_setting(size_t i, const char **section, const char **key)
{
	if (i >= conf_setting_count)
		return false;
	*section = conf_settings[i].section;
	*key = conf_settings[i].key;
	return true;
}

void conf_print(const struct conf *conf, size_t i, char *out, size_t cap)
{
	const struct conf_setting *setting = &conf_settings[i];
	const char *place = (const char *)conf + setting->offset;
	const char *text;
	uint64_t number = 0;

	assert(i < conf_setting_count);
	if (is_text(setting->kind)) {
		memcpy(&text, place, sizeof(text));
		snprintf(out, cap, "%s", text ? text : "-");
		return;
	}
	memcpy(&number, place, is_wide(setting->kind) ? sizeof(uint64_t) : sizeof(uint32_t));
	if (setting->kind == CONF_CHOICE && number == CONF_AUTO)
		snprintf(out, cap, "auto");
	else if (setting->kind == CONF_WORD)
		snprintf(out, cap, "%s", setting->words[number]);
	else
		snprintf(out, cap, "%" PRIu64 "%s", number, unit_of(setting->kind));
}
