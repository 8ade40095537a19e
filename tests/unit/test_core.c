/* Settings and their bounds; memory that is formatted, resumed from, or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node.h"

static struct mu_config good_config(void)
{
	struct mu_config config;

	mu_config_init(&config);
	config.id = 2;
	config.member_mask = 0xe;
	config.group_id = 77;
	config.ring_bytes = 4096;
	config.max_entry_bytes = 448;
	config.max_proposal_bytes = 1024;
	return config;
}

/* ------------------------------------------------------------------- settings */

static void assert_refused(const struct mu_config *config, const char *part)
{
	const char *why = NULL;

	assert_int_equal(mu_config_check(config, &why), MU_ERR_INVALID);
	assert_int_equal(mu_config_check(config, NULL), MU_ERR_INVALID);
	assert_non_null(why);
	if (strstr(why, part) == NULL)
		fail_msg("'%s' does not speak of '%s'", why, part);
}

/* Set one setting to a value that it cannot have. */
#define REFUSED(setting, value, part)                    \
	do {                                             \
		struct mu_config config = good_config(); \
		config.setting = (value);                \
		assert_refused(&config, part);           \
	} while (0)

#define TAKEN(setting, value)                                            \
	do {                                                             \
		struct mu_config config = good_config();                 \
		config.setting = (value);                                \
		assert_int_equal(mu_config_check(&config, NULL), MU_OK); \
	} while (0)

static void test_defaults_are_good(void **state)
{
	struct mu_config config;
	const char *why = "";

	(void)state;
	mu_config_init(&config);
	config.id = 1;
	config.member_mask = 2;
	assert_int_equal(mu_config_check(&config, &why), MU_OK);
	assert_null(why);
}

static void test_bounds_of_settings(void **state)
{
	(void)state;
	REFUSED(id, 0, "id");
	REFUSED(id, MU_MAX_REPLICAS + 1, "id");
	REFUSED(id, 4, "members do not include");
	REFUSED(member_mask, 0xf, "members");
	REFUSED(member_mask, 0x10e, "members");
	REFUSED(member_mask, 0, "members");
	REFUSED(peer_mask, 0x6, "no members, or one is not among the peers");
	REFUSED(peer_mask, 0x10e, "members");
	TAKEN(peer_mask, 0x1e);
	REFUSED(configuration, mu_configuration(9, 0, 0x1e), "not among the peers");
	TAKEN(configuration, mu_configuration(9, 0x8, 0x6));
	REFUSED(ring_bytes, 2048, "ring_bytes");
	REFUSED(ring_bytes, 4096 + 64, "ring_bytes");
	REFUSED(ring_bytes, 1ULL << 41, "ring_bytes");
	TAKEN(ring_bytes, 8192);
	REFUSED(max_entry_bytes, 63, "max_entry_bytes");
	TAKEN(max_entry_bytes, 64);
	TAKEN(max_entry_bytes, 448);
	REFUSED(max_entry_bytes, 449, "max_entry_bytes");
	REFUSED(max_proposal_bytes, 0, "max_proposal_bytes");
	TAKEN(max_proposal_bytes, 1);
	REFUSED(max_proposal_bytes, 1025, "max_proposal_bytes");
	REFUSED(tick_ns, 0, "time");
	REFUSED(data_stall_ns, 0, "time");
	REFUSED(takeover_timeout_ns, 0, "time");
}

static void test_names(void **state)
{
	(void)state;
	for (int error = MU_OK; error <= MU_ERR_NO_MEMORY; error++) {
		assert_string_not_equal(mu_strerror(error), "unknown error");
		for (int other = MU_OK; other < error; other++)
			assert_string_not_equal(mu_strerror(error), mu_strerror(other));
	}
	assert_string_equal(mu_strerror((enum mu_error)99), "unknown error");
	assert_string_equal(mu_role_name(MU_ROLE_BLANK), "blank");
	assert_string_equal(mu_role_name(MU_ROLE_LEADER), "leader");
	assert_string_equal(mu_role_name((enum mu_role)99), "?");
	assert_string_equal(mu_backend_health_name(MU_BACKEND_STALE), "stale");
	assert_string_equal(mu_backend_health_name((enum mu_backend_health)99), "?");
}

static void test_regions_have_room_for_their_layout(void **state)
{
	struct mu_config config = good_config();

	(void)state;
	assert_int_equal(mu_region_bytes(&config, MU_REGION_REPLICATION), MU_RING_OFFSET + 4096);
	assert_int_equal(mu_region_bytes(&config, MU_REGION_BACKGROUND),
			 sizeof(struct mu_background_region));
	assert_int_equal(mu_region_bytes(&config, MU_REGION_PRIVATE),
			 sizeof(struct mu_private_region));
	assert_int_equal(mu_region_bytes(&config, (enum mu_region)99), 0);
}

/* --------------------------------------------------------------------- memory */

/* A fabric without peers: three regions. */
struct memory {
	struct mu_fabric fabric;
	void *regions[MU_REGIONS];
};

static void *local(struct mu_fabric *fabric, enum mu_region region)
{
	return ((struct memory *)fabric)->regions[region];
}

static const struct mu_fabric_ops memory_ops = {.name = "memory", .local = local};

static int set_up(void **state)
{
	struct mu_config config = good_config();
	struct memory *memory = calloc(1, sizeof(*memory));

	assert_non_null(memory);
	memory->fabric.ops = &memory_ops;
	for (unsigned region = 0; region < MU_REGIONS; region++) {
		size_t bytes = (mu_region_bytes(&config, region) + 63) & ~(size_t)63;

		memory->regions[region] = aligned_alloc(64, bytes);
		assert_non_null(memory->regions[region]);
		memset(memory->regions[region], 0, bytes);
	}
	mu_format(&config, 5, memory->regions);
	*state = memory;
	return 0;
}

static int tear_down(void **state)
{
	struct memory *memory = *state;

	for (unsigned region = 0; region < MU_REGIONS; region++)
		free(memory->regions[region]);
	free(memory);
	return 0;
}

static enum mu_error open_with(struct memory *memory, const struct mu_config *config)
{
	struct mu *mu = NULL;
	enum mu_error error = mu_open(&mu, config, &memory->fabric);

	if (error == MU_OK)
		mu_close(mu);
	else
		assert_null(mu);
	return error;
}

static void test_fresh_memory_is_blank(void **state)
{
	struct memory *memory = *state;
	struct mu_config config = good_config();
	struct mu_group_status status;
	struct mu_view view;
	uint64_t lsn;
	struct mu *mu;

	assert_int_equal(mu_open(&mu, &config, &memory->fabric), MU_OK);
	mu_view(mu, &view);
	assert_int_equal(view.role, MU_ROLE_BLANK);
	assert_int_equal(view.ballot, 0);
	assert_int_equal(view.leader, 0);
	assert_true(view.commit_lsn == MU_LSN_NONE);
	mu_group_status(mu, &status);
	assert_int_equal(status.id, 2);
	assert_true(status.replica[1].member && status.replica[2].member);
	assert_false(status.replica[4].member);
	assert_false(status.replica[2].voting);
	assert_int_equal(mu_propose(mu, NULL, 0, 0, &lsn), MU_ERR_NOT_LEADER);
	assert_int_equal(mu_fence(mu, &lsn), MU_ERR_NOT_LEADER);
	mu_resign(mu); /* of nothing */
	mu_close(mu);
	mu_close(NULL);
}

static void test_memory_of_others_is_refused(void **state)
{
	struct memory *memory = *state;
	struct mu_config config = good_config();

	assert_int_equal(open_with(memory, &config), MU_OK);
	config.id = 3;
	assert_int_equal(open_with(memory, &config), MU_ERR_MISMATCH);
	config = good_config();
	config.group_id++;
	assert_int_equal(open_with(memory, &config), MU_ERR_MISMATCH);
	config = good_config();
	config.ring_bytes = 8192;
	assert_int_equal(open_with(memory, &config), MU_ERR_MISMATCH);
	config = good_config();
	config.tick_ns = 0;
	assert_int_equal(open_with(memory, &config), MU_ERR_INVALID);
}

static void test_memory_that_is_damaged_is_refused(void **state)
{
	struct memory *memory = *state;
	struct mu_config config = good_config();
	struct mu_private_region *record = memory->regions[MU_REGION_PRIVATE];
	struct mu_replication_header *header = memory->regions[MU_REGION_REPLICATION];
	uint64_t *const words[] = {&record->magic, &record->version, &record->incarnation,
				   &header->incarnation};

	for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++) {
		++*words[i];
		assert_int_equal(open_with(memory, &config), MU_ERR_MISMATCH);
		--*words[i];
		assert_int_equal(open_with(memory, &config), MU_OK);
	}
	/* Of two halves that were never formatted together. */
	record->incarnation = header->incarnation = 0;
	assert_int_equal(open_with(memory, &config), MU_ERR_MISMATCH);
}

/* What it says of its log must be there. */
static void test_a_commit_word_that_names_nothing_is_refused(void **state)
{
	struct memory *memory = *state;
	struct mu_config config = good_config();
	struct mu_replication_header *header = memory->regions[MU_REGION_REPLICATION];
	struct mu_ring ring;

	header->commit = header->origin.base = 128;
	assert_int_equal(open_with(memory, &config), MU_ERR_MISMATCH);
	mu_ring_init(&ring, &config, header);
	mu_ring_genesis(&ring, 128, 9);
	assert_int_equal(open_with(memory, &config), MU_OK);
}

/* Rule 4: granted is what the record says, or the highest ballot in the log. */
static void test_granted_is_never_below_the_log(void **state)
{
	struct memory *memory = *state;
	struct mu_config config = good_config();
	struct mu_private_region *record = memory->regions[MU_REGION_PRIVATE];
	struct mu_replication_header *header = memory->regions[MU_REGION_REPLICATION];
	struct mu_entry_header *entry;
	struct mu_position genesis;
	struct mu_ring ring;

	mu_ring_init(&ring, &config, header);
	mu_ring_genesis(&ring, 0, 9);
	assert_true(mu_ring_entry(&ring, 0, &genesis));
	header->commit = header->origin.base = 0;
	entry = mu_ring_at(&ring, genesis.end);
	*entry = (struct mu_entry_header){.lsn = genesis.end,
					  .ballot = 0x501,
					  .kind = MU_KIND_APPLICATION,
					  .prev_checksum = genesis.checksum};
	mu_entry_seal(&ring, entry);
	record->granted = 0x302;
	assert_int_equal(open_with(memory, &config), MU_OK);
	assert_int_equal(record->granted, 0x501);
	record->granted = 0x602;
	assert_int_equal(open_with(memory, &config), MU_OK);
	assert_int_equal(record->granted, 0x602);
}

static struct mu_position append(struct mu_ring *ring, const struct mu_position *behind,
				 enum mu_kind kind, uint64_t configuration)
{
	struct mu_entry_header *entry = mu_ring_at(ring, behind->end);
	struct mu_position at;

	*entry = (struct mu_entry_header){.lsn = behind->end,
					  .ballot = 0x501,
					  .kind = (uint8_t)kind,
					  .length = sizeof(configuration),
					  .prev_lsn = behind->lsn,
					  .prev_checksum = behind->checksum};
	memcpy(entry + 1, &configuration, sizeof(configuration));
	mu_entry_seal(ring, entry);
	assert_true(mu_ring_next(ring, behind, &at));
	return at;
}

static void assert_configurations(struct memory *memory, uint64_t committed, uint64_t in_force)
{
	struct mu_config config = good_config();
	struct mu_group_status status;
	struct mu *mu;

	assert_int_equal(mu_open(&mu, &config, &memory->fabric), MU_OK);
	mu_group_status(mu, &status);
	assert_int_equal(status.committed, committed);
	assert_int_equal(status.configuration, in_force);
	assert_int_equal(status.changing, committed != in_force);
	mu_close(mu);
}

/* Rule 13: the header's word, or what a later entry states, committed or not. */
static void test_the_configuration_is_found_again(void **state)
{
	const uint64_t old = 0xe, later = mu_configuration(5, 0, 0x1e),
		       last = mu_configuration(6, 0x10, 0xe);
	struct memory *memory = *state;
	struct mu_config config = good_config();
	struct mu_replication_header *header = memory->regions[MU_REGION_REPLICATION];
	struct mu_position at;
	struct mu_ring ring;

	assert_configurations(memory, old, old);
	mu_ring_init(&ring, &config, header);
	mu_ring_genesis(&ring, 0, 9);
	assert_true(mu_ring_entry(&ring, 0, &at));
	header->commit = header->origin.base = 0;
	at = append(&ring, &at, MU_KIND_APPLICATION, last);
	assert_configurations(memory, old, old);
	at = append(&ring, &at, MU_KIND_CONFIGURATION, later);
	assert_configurations(memory, old, later);
	header->configuration = later;
	assert_configurations(memory, later, later);
	append(&ring, &at, MU_KIND_CONFIGURATION, last);
	assert_configurations(memory, later, last);
}

#define MEMORY_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults_are_good),
		cmocka_unit_test(test_bounds_of_settings),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_regions_have_room_for_their_layout),
		MEMORY_TEST(test_fresh_memory_is_blank),
		MEMORY_TEST(test_memory_of_others_is_refused),
		MEMORY_TEST(test_memory_that_is_damaged_is_refused),
		MEMORY_TEST(test_a_commit_word_that_names_nothing_is_refused),
		MEMORY_TEST(test_granted_is_never_below_the_log),
		MEMORY_TEST(test_the_configuration_is_found_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
