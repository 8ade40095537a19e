/* shm_memory.c - own memory and views of the peers'; see the header. */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm_copy.h"
#include "shm_memory.h"

/* Reasons that nobody wants to hear. */
static const struct memory_error unheard = {NULL, 0};

/* Where the private region begins: on a page that no peer maps. */
static size_t private_offset(const struct memory_directory *dir,
			     const struct mu_fabric_config *config)
{
	return memory_round_up(dir, SHM_HEADER_BYTES + config->region_bytes[MU_REGION_BACKGROUND]);
}

static size_t main_bytes(const struct memory_directory *dir, const struct mu_fabric_config *config)
{
	return private_offset(dir, config) +
	       memory_round_up(dir, config->region_bytes[MU_REGION_PRIVATE]);
}

static size_t log_bytes(const struct memory_directory *dir, const struct mu_fabric_config *config)
{
	return memory_round_up(dir, config->region_bytes[MU_REGION_REPLICATION]);
}

/* A power of two, so that segments are told by a shift. */
static uint64_t segment_bytes(const struct memory_directory *dir,
			      const struct mu_fabric_config *config)
{
	uint64_t bytes = SHM_SEGMENT_MIN_BYTES;

	while (bytes < dir->unit || bytes * SHM_SEGMENTS_MAX < log_bytes(dir, config))
		bytes *= 2;
	return bytes;
}

/* ----------------------------------------------------------------- judging */

static const struct memory_identity shm_kind = {.magic = SHM_MAGIC, .version = SHM_VERSION};

static enum memory_verdict judge(const struct memory_map *main, const struct memory_directory *dir,
				 const struct mu_fabric_config *config, unsigned id,
				 const struct memory_error *error)
{
	const struct shm_header *header = (const struct shm_header *)(void *)main->base;
	enum memory_verdict verdict =
		memory_judge(main, main_bytes(dir, config), &shm_kind, dir, config, id, error);

	if (verdict == MEMORY_RESUME && header->segment_bytes != segment_bytes(dir, config))
		return memory_refuse(dir, memory_main_name(id).text,
				     "is of another size than configured", error);
	return verdict;
}

/* --------------------------------------------------------- mapping the log */

/* The bytes of a segment; the last one may be shorter than the others. */
static size_t segment_length(const struct shm_header *header, const struct memory_map *log,
			     unsigned segment)
{
	size_t left = log->bytes - segment * header->segment_bytes;

	return left < header->segment_bytes ? left : header->segment_bytes;
}

/* Let a mapping take a segment's place in the mapping of the log. */
static bool take_place(const struct shm_header *header, const struct memory_map *log,
		       unsigned segment, const struct memory_map *patch)
{
	uint8_t *place = log->base + segment * header->segment_bytes;

	return patch->bytes == segment_length(header, log, segment) &&
	       mremap(patch->base, patch->bytes, patch->bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		      place) == place;
}

/* Map a replica's log with its patches, as of a generation. */
static enum memory_found map_log(const struct memory_directory *dir,
				 const struct shm_header *header, uint64_t generation, size_t bytes,
				 struct memory_map *log, const struct memory_error *error)
{
	const _Atomic uint64_t *table = shm_patch_table(header, generation);
	struct memory_name name = shm_log_name(header->identity.id);
	enum memory_found found = memory_file_map(dir, name.text, log, error);

	if (found == MEMORY_FOUND && log->bytes != bytes) {
		memory_error_set(error, "%s/%s: is of another size than configured", dir->path,
				 name.text);
		return MEMORY_FAILED;
	}
	for (unsigned i = 0; found == MEMORY_FOUND && i * header->segment_bytes < bytes; i++) {
		uint64_t number = atomic_load(&table[i]);
		struct memory_map patch = {0};

		if (number == 0)
			continue;
		name = shm_patch_name(header->identity.id, number);
		found = memory_file_map(dir, name.text, &patch, error);
		if (found == MEMORY_FOUND && !take_place(header, log, i, &patch)) {
			memory_unmap(&patch);
			memory_error_set(error, "%s/%s: cannot be mapped", dir->path, name.text);
			return MEMORY_FAILED;
		}
	}
	return found;
}

/* ---------------------------------------------------------- the own memory */

static void place_regions(struct shm_memory *memory, const struct memory_directory *dir,
			  const struct mu_fabric_config *config)
{
	memory->header = (struct shm_header *)(void *)memory->main.base;
	memory->region[MU_REGION_BACKGROUND] = memory->main.base + SHM_HEADER_BYTES;
	memory->region[MU_REGION_PRIVATE] = memory->main.base + private_offset(dir, config);
	memory->region[MU_REGION_REPLICATION] = memory->log.base;
}

void shm_memory_close(struct shm_memory *memory)
{
	memory_unmap(&memory->main);
	memory_unmap(&memory->log);
	memory->header = NULL;
}

static enum memory_verdict resume(struct shm_memory *memory, const struct memory_directory *dir,
				  const struct mu_fabric_config *config,
				  const struct memory_error *error)
{
	struct memory_name main_name = memory_main_name(config->id);
	enum memory_found found = memory_file_map(dir, main_name.text, &memory->main, error);
	enum memory_verdict verdict;

	if (found != MEMORY_FOUND)
		return found == MEMORY_ABSENT ? MEMORY_LOST : MEMORY_REFUSE;
	verdict = judge(&memory->main, dir, config, config->id, error);
	if (verdict != MEMORY_RESUME)
		return verdict;
	memory->header = (struct shm_header *)(void *)memory->main.base;
	found = map_log(dir, memory->header, atomic_load(&memory->header->generation),
			log_bytes(dir, config), &memory->log, error);
	if (found != MEMORY_FOUND)
		return found == MEMORY_ABSENT ? MEMORY_LOST : MEMORY_REFUSE;
	place_regions(memory, dir, config);
	shm_clear_leftovers(dir, config->id, memory->header);
	return MEMORY_RESUME;
}

static int fill_header(struct shm_header *header, const struct memory_directory *dir,
		       const struct mu_fabric_config *config, const struct memory_error *error)
{
	if (memory_identify(&header->identity, &shm_kind, dir, config, error) != 0)
		return -1;
	header->segment_bytes = segment_bytes(dir, config);
	atomic_store(&header->generation, SHM_FIRST_GENERATION);
	return 0;
}

/*
 * Tell the peers, those that run and those that will resume, which incarnation
 * this memory is of. Whatever memory of this replica they have mapped, if it is
 * another they will not use it from now on. A peer whose file cannot be used
 * cannot have mapped ours either.
 */
static void announce(const struct shm_memory *memory, const struct memory_directory *dir,
		     const struct mu_fabric_config *config)
{
	for (unsigned peer = 1; peer < MU_ID_SLOTS; peer++) {
		struct memory_map main = {0};
		struct memory_name name = memory_main_name(peer);

		if (peer == config->id || !(config->member_mask & (1U << peer)))
			continue;
		if (memory_file_map(dir, name.text, &main, &unheard) != MEMORY_FOUND)
			continue;
		if (judge(&main, dir, config, peer, &unheard) == MEMORY_RESUME) {
			struct shm_header *header = (struct shm_header *)(void *)main.base;

			atomic_store(&header->peer_incarnation[config->id],
				     memory->header->identity.incarnation);
		}
		memory_unmap(&main);
	}
}

/* Build new memory beside whatever there is; the main file's rename makes it real. */
static int format(struct shm_memory *memory, const struct memory_directory *dir,
		  const struct mu_fabric_config *config, const struct memory_error *error)
{
	struct memory_name log_name = shm_log_name(config->id);
	struct memory_name new_name = memory_main_new_name(config->id);
	struct memory_name main_name = memory_main_name(config->id);
	void *regions[MU_REGIONS];

	shm_clear_leftovers(dir, config->id, NULL);
	if (memory_file_create(dir, log_name.text, log_bytes(dir, config), &memory->log, error) !=
	    0)
		return -1;
	if (memory_file_create(dir, new_name.text, main_bytes(dir, config), &memory->main, error) !=
	    0)
		return -1;
	place_regions(memory, dir, config);
	if (fill_header(memory->header, dir, config, error) != 0)
		return -1;
	for (int i = 0; i < MU_REGIONS; i++)
		regions[i] = memory->region[i];
	config->format(config->format_ctx, regions);
	announce(memory, dir, config);
	if (renameat(dir->fd, new_name.text, dir->fd, main_name.text) != 0)
		return memory_error_set(error, "%s/%s: %s", dir->path, main_name.text,
					strerror(errno));
	return 0;
}

int shm_memory_open(struct shm_memory *memory, const struct memory_directory *dir,
		    const struct mu_fabric_config *config, const struct memory_error *error)
{
	enum memory_verdict verdict;

	*memory = (struct shm_memory){0};
	verdict = resume(memory, dir, config, error);
	if (verdict == MEMORY_RESUME) {
		announce(memory, dir, config);
		return 0;
	}
	shm_memory_close(memory);
	if (verdict == MEMORY_REFUSE)
		return -1;
	if (format(memory, dir, config, error) == 0)
		return 0;
	shm_memory_close(memory);
	shm_clear_leftovers(dir, config->id, NULL);
	unlinkat(dir->fd, shm_log_name(config->id).text, 0);
	return -1;
}

/* A segment's copy on the way to take the segment's place. */
struct move {
	unsigned segment;
	uint64_t patch;
	struct memory_map copy;
};

static bool prepare_move(struct shm_memory *memory, const struct memory_directory *dir, unsigned id,
			 struct move *move)
{
	struct shm_header *header = memory->header;

	/* Numbers are used once, also if the process dies before the next line. */
	move->patch = atomic_fetch_add(&header->last_patch, 1) + 1;
	if (memory_file_create(dir, shm_patch_name(id, move->patch).text,
			       segment_length(header, &memory->log, move->segment), &move->copy,
			       &unheard) != 0)
		return false;
	/* Neither side is private here; what counts is that no word is torn. */
	shm_copy_in(move->copy.base, memory->log.base + move->segment * header->segment_bytes,
		    move->copy.bytes);
	return true;
}

static void complete_move(struct shm_memory *memory, const struct move *move)
{
	/* One step for all threads of this process: they see the old file or the new. */
	bool placed = take_place(memory->header, &memory->log, move->segment, &move->copy);

	/* If it failed then the old mapping may be gone, and with it what all here stand on. */
	assert(placed);
	(void)placed;
}

/* All at once: a process that dies on the way leaves the present generation as it is. */
static void publish_moves(struct shm_memory *memory, const struct memory_directory *dir,
			  unsigned id, const struct move *moves, unsigned count)
{
	struct shm_header *header = memory->header;
	uint64_t generation = atomic_load(&header->generation);
	_Atomic uint64_t *now = header->patch[generation % 2];
	_Atomic uint64_t *next = header->patch[(generation + 1) % 2];

	for (unsigned i = 0; i < SHM_SEGMENTS_MAX; i++)
		atomic_store_explicit(&next[i], atomic_load(&now[i]), memory_order_relaxed);
	for (unsigned i = 0; i < count; i++)
		atomic_store_explicit(&next[moves[i].segment], moves[i].patch,
				      memory_order_relaxed);
	atomic_store(&header->generation, generation + 1);
	for (unsigned i = 0; i < count; i++) {
		uint64_t old_patch = atomic_load(&now[moves[i].segment]);

		if (old_patch != 0)
			unlinkat(dir->fd, shm_patch_name(id, old_patch).text, 0);
	}
}

int shm_memory_replace(struct shm_memory *memory, const struct memory_directory *dir, unsigned id,
		       const unsigned *segments, unsigned count)
{
	struct move moves[MU_ID_SLOTS * MU_PLANES] = {0};
	unsigned prepared = 0;

	assert(count > 0 && count <= MU_ID_SLOTS * MU_PLANES);
	for (; prepared < count; prepared++) {
		moves[prepared].segment = segments[prepared];
		if (!prepare_move(memory, dir, id, &moves[prepared]))
			break;
	}
	if (prepared < count) {
		while (prepared-- > 0) {
			memory_unmap(&moves[prepared].copy);
			unlinkat(dir->fd, shm_patch_name(id, moves[prepared].patch).text, 0);
		}
		return -1;
	}
	for (unsigned i = 0; i < count; i++)
		complete_move(memory, &moves[i]);
	publish_moves(memory, dir, id, moves, count);
	return 0;
}

/* --------------------------------------------------------- others' memory */

void shm_view_close(struct shm_view *view)
{
	memory_unmap(&view->main);
	memory_unmap(&view->log);
	view->header = NULL;
}

int shm_view_open(struct shm_view *view, const struct memory_directory *dir,
		  const struct mu_fabric_config *config, unsigned id)
{
	struct memory_name main_name = memory_main_name(id);

	*view = (struct shm_view){0};
	if (memory_file_map(dir, main_name.text, &view->main, &unheard) != MEMORY_FOUND)
		return -1;
	if (judge(&view->main, dir, config, id, &unheard) != MEMORY_RESUME) {
		shm_view_close(view);
		return -1;
	}
	/* Peers have no business behind the background region. */
	munmap(view->main.base + private_offset(dir, config),
	       view->main.bytes - private_offset(dir, config));
	view->main.bytes = private_offset(dir, config);
	view->header = (struct shm_header *)(void *)view->main.base;
	view->generation = atomic_load(&view->header->generation);
	view->segment_shift = (unsigned)__builtin_ctzll(view->header->segment_bytes);
	if (map_log(dir, view->header, view->generation, log_bytes(dir, config), &view->log,
		    &unheard) != MEMORY_FOUND ||
	    atomic_load(&view->header->generation) != view->generation) {
		shm_view_close(view);
		return -1;
	}
	view->region[MU_REGION_BACKGROUND] = view->main.base + SHM_HEADER_BYTES;
	view->region[MU_REGION_REPLICATION] = view->log.base;
	return 0;
}

bool shm_view_is_current(const struct shm_view *view, const struct memory_directory *dir,
			 unsigned id)
{
	struct memory_name name = memory_main_name(id);
	struct stat st;

	return view->header != NULL && fstatat(dir->fd, name.text, &st, 0) == 0 &&
	       st.st_dev == view->main.device && st.st_ino == view->main.inode &&
	       atomic_load(&view->header->generation) == view->generation;
}
