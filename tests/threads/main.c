/*
 * main.c - three replicas in one process, each with its two threads, over real
 * shared memory and under load, while their leaders resign and their threads
 * stand still: for the thread sanitizer, which sees all accesses of one process.
 * Nothing here can be killed; tests/sim and tests/integration do that.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "replica.h"

#define ROUNDS 12
#define COMMITS_A_ROUND 200
#define DEADLINE_NS UINT64_C(120000000000) /* nothing takes so long, however slow all is */

static struct group group;
static struct replica replicas[REPLICAS + 1]; /* by id */

static void delete_directory(void)
{
	DIR *list = opendir(group.directory);
	struct dirent *entry;

	if (list == NULL)
		return;
	while ((entry = readdir(list)) != NULL) {
		char path[sizeof(group.directory) + sizeof(entry->d_name) + 1];

		snprintf(path, sizeof(path), "%s/%s", group.directory, entry->d_name);
		if (entry->d_name[0] != '.')
			unlink(path);
	}
	closedir(list);
	rmdir(group.directory);
}

static void make_directory(void)
{
	snprintf(group.directory, sizeof(group.directory), "%s/mu-planes-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (mkdtemp(group.directory) == NULL)
		complain("%s cannot be made", group.directory);
	atexit(delete_directory);
}

/* ------------------------------------------------------------------------- waiting */

/* The replica that leads under the highest ballot; 0: none. */
static unsigned leader(void)
{
	unsigned long highest = 0;
	unsigned who = 0;

	for (unsigned id = 1; id <= REPLICAS; id++) {
		unsigned long ballot = atomic_load(&replicas[id].ballot);

		if (ballot > highest) {
			highest = ballot;
			who = id;
		}
	}
	return who;
}

/* One turn of waiting. What a replica says of its group may be asked by any thread. */
static void wait_turn(uint64_t since_ns, const char *what)
{
	struct timespec turn = clock_timespec(500000);
	struct mu_group_status status;

	for (unsigned id = 1; id <= REPLICAS; id++) {
		mu_group_status(replicas[id].mu, &status);
		if (status.id != id)
			complain("replica %u says that it is %u", id, status.id);
	}
	nanosleep(&turn, NULL);
	if (clock_ns() - since_ns > DEADLINE_NS)
		complain("waited in vain for %s", what);
}

static void wait_for_commits(unsigned long more)
{
	unsigned long target = atomic_load(&group.committed) + more;
	uint64_t since_ns = clock_ns();

	while (atomic_load(&group.committed) < target)
		wait_turn(since_ns, "proposals to be committed");
}

static void wait_for_another_ballot(unsigned long than)
{
	uint64_t since_ns = clock_ns();
	unsigned who;

	while ((who = leader()) == 0 || atomic_load(&replicas[who].ballot) <= than)
		wait_turn(since_ns, "another leader");
}

static void wait_until_all_are_level(void)
{
	uint64_t since_ns = clock_ns();

	for (unsigned id = 1; id <= REPLICAS;) {
		unsigned long count;

		pthread_mutex_lock(&group.sequence.lock);
		count = group.sequence.count;
		pthread_mutex_unlock(&group.sequence.lock);
		if (atomic_load(&replicas[id].applied) == count)
			id++;
		else
			wait_turn(since_ns, "all replicas to have applied everything");
	}
}

/* ------------------------------------------------------------------------- trouble */

static void stop(struct replica *replica, bool data, bool background, bool stopped)
{
	if (data)
		atomic_store(&replica->stopped[MU_PLANE_DATA], stopped);
	if (background)
		atomic_store(&replica->stopped[MU_PLANE_BACKGROUND], stopped);
}

/* Take the office from who leads, in another way each time, until another ballot leads. */
static void trouble(unsigned round)
{
	static const char *const ways[] = {"resigns", "its data thread stands still",
					   "its background thread stands still", "it stands still"};
	unsigned way = round % 4, who = leader();
	struct replica *replica = &replicas[who];
	unsigned long ballot;

	if (who == 0)
		return; /* it changes hands just now */
	ballot = atomic_load(&replica->ballot);
	printf("replica %u leads under %lx: %s\n", who, ballot, ways[way]);
	fflush(stdout);
	if (way == 0)
		atomic_store(&replica->resign, true);
	stop(replica, way & 1, way & 2, true);
	wait_for_another_ballot(ballot);
	stop(replica, true, true, false);
}

int main(void)
{
	pthread_mutex_init(&group.sequence.lock, NULL);
	make_directory();
	for (unsigned id = 1; id <= REPLICAS; id++)
		replica_open(&replicas[id], &group, id);
	atomic_store(&group.loaded, true);
	for (unsigned id = 1; id <= REPLICAS; id++)
		replica_start(&replicas[id]);
	for (unsigned round = 0; round < ROUNDS; round++) {
		wait_for_commits(COMMITS_A_ROUND);
		trouble(round);
	}
	wait_for_commits(COMMITS_A_ROUND);
	atomic_store(&group.loaded, false);
	wait_until_all_are_level();
	atomic_store(&group.quit, true);
	for (unsigned id = 1; id <= REPLICAS; id++)
		replica_join(&replicas[id]);
	for (unsigned id = 1; id <= REPLICAS; id++)
		replica_close(&replicas[id]);
	printf("%lu proposals committed, %llu entries applied by all\n",
	       atomic_load(&group.committed), (unsigned long long)group.sequence.count);
	return 0;
}
