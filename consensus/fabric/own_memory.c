/* own_memory.c - see the header. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "own_memory.h"

static const struct memory_identity kind = {.magic = 0x006d656d2d776f6eULL, .version = 1};

static size_t log_offset(const struct memory_directory *dir, const struct mu_fabric_config *config)
{
	return memory_round_up(dir, OWN_MEMORY_HEADER_BYTES +
					    config->region_bytes[MU_REGION_BACKGROUND] +
					    config->region_bytes[MU_REGION_PRIVATE]);
}

static size_t file_bytes(const struct memory_directory *dir, const struct mu_fabric_config *config)
{
	return log_offset(dir, config) +
	       memory_round_up(dir, config->region_bytes[MU_REGION_REPLICATION]);
}

static void place_regions(struct own_memory *memory, const struct mu_fabric_config *config)
{
	uint8_t *base = memory->map.base;

	memory->header = (struct own_memory_header *)(void *)base;
	base += OWN_MEMORY_HEADER_BYTES;
	memory->region[MU_REGION_BACKGROUND] = base;
	memory->region[MU_REGION_PRIVATE] = base + config->region_bytes[MU_REGION_BACKGROUND];
	memory->region[MU_REGION_REPLICATION] = memory->map.base + log_offset(&memory->dir, config);
}

static enum memory_verdict resume(struct own_memory *memory, const struct mu_fabric_config *config,
				  const struct memory_error *error)
{
	enum memory_found found = memory_file_map(&memory->dir, memory_main_name(config->id).text,
						  &memory->map, error);
	enum memory_verdict verdict;

	if (found != MEMORY_FOUND)
		return found == MEMORY_ABSENT ? MEMORY_LOST : MEMORY_REFUSE;
	verdict = memory_judge(&memory->map, file_bytes(&memory->dir, config), &kind, &memory->dir,
			       config, config->id, error);
	if (verdict == MEMORY_RESUME)
		place_regions(memory, config);
	else
		memory_unmap(&memory->map);
	return verdict;
}

/* Build new memory beside whatever there is; the rename makes it real. */
static int format(struct own_memory *memory, const struct mu_fabric_config *config,
		  const struct memory_error *error)
{
	const struct memory_directory *dir = &memory->dir;
	struct memory_name new_name = memory_main_new_name(config->id);
	struct memory_name name = memory_main_name(config->id);
	void *regions[MU_REGIONS];

	if (memory_file_create(dir, new_name.text, file_bytes(dir, config), &memory->map, error) !=
	    0)
		return -1;
	place_regions(memory, config);
	if (memory_identify(&memory->header->identity, &kind, dir, config, error) != 0)
		goto discard;
	for (int i = 0; i < MU_REGIONS; i++)
		regions[i] = memory->region[i];
	config->format(config->format_ctx, regions);
	if (renameat(dir->fd, new_name.text, dir->fd, name.text) == 0)
		return 0;
	memory_error_set(error, "%s/%s: %s", dir->path, name.text, strerror(errno));
discard:
	memory_unmap(&memory->map);
	unlinkat(dir->fd, new_name.text, 0);
	return -1;
}

int own_memory_open(struct own_memory *memory, const struct mu_fabric_config *config,
		    const char *directory, char *err, size_t err_bytes)
{
	const struct memory_error error = {err, err_bytes};
	enum memory_verdict verdict;

	*memory = (struct own_memory){0};
	if (memory_check_config(config, &error) != 0 ||
	    memory_directory_open(&memory->dir, directory, &error) != 0)
		return -1;
	memory->lock_fd = memory_lock(&memory->dir, config->id, &error);
	if (memory->lock_fd < 0)
		goto close_directory;
	verdict = resume(memory, config, &error);
	if (verdict == MEMORY_RESUME ||
	    (verdict == MEMORY_LOST && format(memory, config, &error) == 0))
		return 0;
	close(memory->lock_fd);
close_directory:
	memory_directory_close(&memory->dir);
	return -1;
}

void own_memory_close(struct own_memory *memory)
{
	memory_unmap(&memory->map);
	close(memory->lock_fd);
	memory_directory_close(&memory->dir);
}
