/* dev_files.c - see dev_files.h. */
#include "config.h"

#include "dev_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "mu.h"
#include "pidfile.h"

#define TMPFS "/dev/shm"
#define MEMORY_PREFIX "muproxy-dev-"
#define OWNER_FILE "owner.pid"
/* A memory directory without an owner is somebody's who died, if it is older than this. */
enum { ORPHAN_AGE_S = 60, LEAST_RING_BYTES = 4 << 20 };

static const char *const run_files[] = {
	"redis.sock",    "memcached.sock", "peer.sock", "redis.pid",
	"memcached.pid", "muproxy.pid",    "members",
};
static const char *const kept_files[] = {"muproxy.conf", "muproxy.log"};
#define RUN_FILES (sizeof(run_files) / sizeof(run_files[0]))
#define KEPT_FILES (sizeof(kept_files) / sizeof(kept_files[0]))

void dev_files_init(struct dev_files *files)
{
	memset(files, 0, sizeof(*files));
	files->dir_fd = files->owner_fd = -1;
}

void dev_path(const struct dev_files *files, unsigned replica, const char *name, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%.3900s/replica-%u%s%.100s", files->dir, replica,
		 name[0] ? "/" : "", name);
}

/* ------------------------------------------------------------- directory */

static bool make_dir(struct dev_files *files, const char *wanted, char *err, size_t err_bytes)
{
	char temporary[] = "/tmp/muproxy-dev-XXXXXX";
	const char *dir = wanted ? wanted : mkdtemp(temporary);

	files->made_dir = !wanted;
	if (wanted && mkdir(wanted, 0700) == 0)
		files->made_dir = true;
	else if (!dir || (wanted && errno != EEXIST)) {
		snprintf(err, err_bytes, "%s: %s", wanted ? wanted : temporary, strerror(errno));
		return false;
	}
	if (!realpath(dir, files->dir)) {
		snprintf(err, err_bytes, "%s: %s", dir, strerror(errno));
		return false;
	}
	return true;
}

/* The folder will hold the group's secret and its sockets: it must be ours alone to change. */
static bool lock_dir(struct dev_files *files, char *err, size_t err_bytes)
{
	struct stat st;

	files->dir_fd = open(files->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (files->dir_fd < 0 || fstat(files->dir_fd, &st) < 0) {
		snprintf(err, err_bytes, "%s: %s", files->dir, strerror(errno));
		return false;
	}
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH))) {
		snprintf(err, err_bytes, "%s: must belong to you and be writable by nobody else",
			 files->dir);
		return false;
	}
	if (flock(files->dir_fd, LOCK_EX | LOCK_NB) < 0) {
		snprintf(err, err_bytes, "%s: another muproxy dev runs in it", files->dir);
		return false;
	}
	return true;
}

static bool check_dir(const struct dev_files *files, char *err, size_t err_bytes)
{
	const size_t most = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
	size_t longest = strlen(files->dir) + strlen("/replica-N/memcached.sock");

	if (longest > most) {
		snprintf(err, err_bytes,
			 "%s: too long: the path of a unix socket in it would have %zu characters, "
			 "and %zu is the most (--dir chooses another)",
			 files->dir, longest, most);
		return false;
	}
	if (strpbrk(files->dir, ";#\r\n")) {
		snprintf(err, err_bytes, "%s: ';', '#' and line breaks cannot stand in the path",
			 files->dir);
		return false;
	}
	return true;
}

/* A replica of an earlier group that was started by hand may still run in here. */
static bool check_nobody_runs(const struct dev_files *files, char *err, size_t err_bytes)
{
	char path[PATH_MAX];
	unsigned id;

	for (id = 1; id <= MU_MAX_REPLICAS; id++) {
		dev_path(files, id, "muproxy.pid", path);
		if (pidfile_holder(path)) {
			snprintf(err, err_bytes, "%.300s: process %d is still running with it",
				 path, (int)pidfile_holder(path));
			return false;
		}
	}
	return true;
}

static bool make_replica_dirs(const struct dev_files *files, char *err, size_t err_bytes)
{
	char path[PATH_MAX];
	unsigned id;
	size_t i;

	for (id = 1; id <= files->replicas; id++) {
		dev_path(files, id, "", path);
		if (mkdir(path, 0700) < 0 && errno != EEXIST) {
			snprintf(err, err_bytes, "%.300s: %s", path, strerror(errno));
			return false;
		}
		for (i = 0; i < RUN_FILES; i++) {
			dev_path(files, id, run_files[i], path);
			unlink(path);
		}
		dev_path(files, id, "muproxy.log", path);
		unlink(path);
	}
	return true;
}

/* ---------------------------------------------------------------- memory */

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *place)
{
	(void)st;
	(void)place;
	if (what == FTW_DP)
		rmdir(path);
	else
		unlink(path);
	return 0;
}

static void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Memory of groups whose `muproxy dev` was killed: nobody else would ever free it. */
static void remove_orphans(void)
{
	char path[PATH_MAX], owner[PATH_MAX];
	struct dirent *entry;
	struct stat st;
	DIR *dir = opendir(TMPFS);

	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, MEMORY_PREFIX, strlen(MEMORY_PREFIX)) != 0)
			continue;
		snprintf(path, sizeof(path), TMPFS "/%s", entry->d_name);
		snprintf(owner, sizeof(owner), TMPFS "/%s/" OWNER_FILE, entry->d_name);
		if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
		    time(NULL) - st.st_mtime > ORPHAN_AGE_S && !pidfile_holder(owner))
			remove_tree(path);
	}
	if (dir)
		closedir(dir);
}

/*
 * Rings of the usual size, but all together no more than a quarter of what is
 * free: they are memory, and a replica may need its own twice for a moment.
 */
static uint64_t choose_ring_bytes(const struct dev_files *files, const struct dev_options *options)
{
	struct mu_config usual;
	struct statvfs fs;
	uint64_t bytes, room;

	if (options->ring_bytes)
		return options->ring_bytes;
	mu_config_init(&usual);
	bytes = usual.ring_bytes;
	if (statvfs(files->memory, &fs) == 0) {
		room = (uint64_t)fs.f_bavail * fs.f_frsize / 4;
		while (bytes > LEAST_RING_BYTES && bytes * options->replicas > room)
			bytes /= 2;
	}
	return bytes;
}

static bool make_memory(struct dev_files *files, const struct dev_options *options, char *err,
			size_t err_bytes)
{
	char owner[PATH_MAX];

	remove_orphans();
	snprintf(files->memory, sizeof(files->memory), TMPFS "/" MEMORY_PREFIX "XXXXXX");
	if (!mkdtemp(files->memory)) {
		snprintf(err, err_bytes, "%s: %s", files->memory, strerror(errno));
		files->memory[0] = '\0';
		return false;
	}
	snprintf(owner, sizeof(owner), "%.1000s/" OWNER_FILE, files->memory);
	files->owner_fd = pidfile_take(owner, err, err_bytes);
	files->ring_bytes = choose_ring_bytes(files, options);
	return files->owner_fd >= 0;
}

/* -------------------------------------------------------- configurations */

/* A secret for this run of the group alone. */
static bool make_key(char hex[65])
{
	unsigned char key[32];
	size_t i;

	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return false;
	for (i = 0; i < sizeof(key); i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	return true;
}

static void print_member(FILE *out, const struct dev_files *files,
			 const struct dev_options *options, unsigned id)
{
	char path[PATH_MAX];

	fprintf(out, "\n[member %u]\n", id);
	if (options->peer_port) {
		fprintf(out, "address = 127.0.0.1:%d\n", options->peer_port + (int)id - 1);
		return;
	}
	dev_path(files, id, "peer.sock", path);
	fprintf(out, "peer = unix:%s\n", path);
}

/* By right or by limit: trying is the only way to know. */
static bool may_be_realtime(void)
{
	struct sched_param param = {.sched_priority = 1};

	if (sched_setscheduler(0, SCHED_FIFO, &param) != 0)
		return false;
	param.sched_priority = 0;
	sched_setscheduler(0, SCHED_OTHER, &param);
	return true;
}

static void print_timing(FILE *out)
{
	fprintf(out,
		"\n[timing]\n"
		"# Every replica and every server shares this machine's cores: who spins is in "
		"the way.\n"
		"spin = 0\n");
	if (!may_be_realtime())
		fprintf(out, "# Without real-time priority heartbeats wait for a core like "
			     "everybody, and "
			     "leaders\n# are to stay also while something is being compiled.\n"
			     "tick = 5ms\n");
}

static void print_conf(FILE *out, const struct dev_files *files, const struct dev_options *options,
		       unsigned id, const char *key)
{
	char path[PATH_MAX];
	unsigned peer;

	fprintf(out,
		"# Replica %u of a group made by muproxy dev. Start it again with:\n"
		"#   muproxy -c %s/replica-%u/muproxy.conf\n"
		"[replica]\nid = %u\ngroup = dev\nkey = %s\nmemory-dir = %s\n"
		"ring-size = %" PRIu64 "\n",
		id, files->dir, id, id, key, files->memory, files->ring_bytes);
	dev_path(files, id, "muproxy.pid", path);
	fprintf(out, "pid-file = %s\nlog-level = %s\nfabric = %s\n", path, options->log_level,
		options->fabric);
	dev_path(files, id, "members", path);
	fprintf(out, "state-file = %s\n", path);
	for (peer = 1; peer <= files->replicas; peer++)
		print_member(out, files, options, peer);
	dev_path(files, id, "redis.sock", path);
	fprintf(out, "\n[redis]\nlisten = 127.0.0.1:%d\nbackend = unix:%s\n",
		options->redis_port + (int)id - 1, path);
	if (options->seed && id == 1)
		fprintf(out, "seed = %s\n", options->seed);
	dev_path(files, id, "memcached.sock", path);
	fprintf(out, "\n[memcached]\nlisten = 127.0.0.1:%d\nbackend = unix:%s\n",
		options->memcached_port + (int)id - 1, path);
	if (options->memcached_seed && id == 1)
		fprintf(out, "seed = %s\n", options->memcached_seed);
	fprintf(out, "\n[admin]\nlisten = 127.0.0.1:%d\n", options->admin_port + (int)id - 1);
	print_timing(out);
}

static bool write_confs(const struct dev_files *files, const struct dev_options *options, char *err,
			size_t err_bytes)
{
	char path[PATH_MAX], key[65];
	unsigned id;
	FILE *out;
	int fd;

	if (!make_key(key)) {
		snprintf(err, err_bytes, "no random numbers: %s", strerror(errno));
		return false;
	}
	for (id = 1; id <= files->replicas; id++) {
		dev_path(files, id, "muproxy.conf", path);
		unlink(path);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		out = fd < 0 ? NULL : fdopen(fd, "w");
		if (out)
			print_conf(out, files, options, id, key);
		if (!out || fclose(out) != 0) {
			snprintf(err, err_bytes, "%.300s: %s", path, strerror(errno));
			return false;
		}
	}
	return true;
}

/* ---------------------------------------------------------------- public */

bool dev_files_make(struct dev_files *files, const struct dev_options *options, char *err,
		    size_t err_bytes)
{
	if (!make_dir(files, options->dir, err, err_bytes) || !lock_dir(files, err, err_bytes) ||
	    !check_dir(files, err, err_bytes) || !check_nobody_runs(files, err, err_bytes))
		return false;
	/* From here on what is in the replicas' folders is ours to remove. */
	files->replicas = options->replicas;
	files->keep = options->keep;
	return make_replica_dirs(files, err, err_bytes) &&
	       make_memory(files, options, err, err_bytes) &&
	       write_confs(files, options, err, err_bytes);
}

static void remove_replica_dir(const struct dev_files *files, unsigned id)
{
	char path[PATH_MAX];
	size_t i;

	for (i = 0; i < RUN_FILES; i++) {
		dev_path(files, id, run_files[i], path);
		unlink(path);
	}
	for (i = 0; i < KEPT_FILES && !files->keep; i++) {
		dev_path(files, id, kept_files[i], path);
		unlink(path);
	}
	/* Stays, as it should, if it holds anything that is not ours. */
	dev_path(files, id, "", path);
	rmdir(path);
}

void dev_files_remove(struct dev_files *files)
{
	unsigned id;

	for (id = 1; id <= files->replicas; id++)
		remove_replica_dir(files, id);
	if (files->memory[0])
		remove_tree(files->memory);
	if (files->owner_fd >= 0)
		close(files->owner_fd);
	if (files->made_dir)
		rmdir(files->dir);
	if (files->dir_fd >= 0)
		close(files->dir_fd);
	dev_files_init(files);
}
