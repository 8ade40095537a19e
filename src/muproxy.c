/*
 * muproxy.c - the daemon: one replica in the foreground, or `muproxy dev`.
 * Exit codes: 0 stopped as asked, 1 failed while running, 2 could not start
 * (usage, configuration, ports, memory of another group).
 */
#include "config.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin.h"
#include "conf.h"
#include "dev.h"
#include "fabric_verbs.h"
#include "log.h"
#include "pidfile.h"
#include "replica.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_CANNOT_START = 2 };
enum {
	DRAIN_POLL_US = 10 * 1000,
	DRAIN_GRACE_MS = 2000, /* beyond drain-timeout, before the threads are given up */
	WATCH_S = 1,
	MEMBERS_MS = 100,
	/* One that was removed is there for so long, for who asked for that to see it. */
	REMOVED_LINGER_MS = 1000,
};

static const char usage_text[] =
	"usage: muproxy -c FILE             run one replica in the foreground\n"
	"       muproxy --check-config FILE check a configuration and say what is wrong\n"
	"       muproxy dev [options]       run a whole group on this machine (muproxy dev "
	"--help)\n"
	"       muproxy --list-devices      list RDMA devices; * marks what would be chosen\n"
	"       muproxy --help | --version\n"
	"\n"
	"Logs go to stderr. SIGTERM and SIGINT answer what was taken, then exit with 0.\n"
	"exit code: 0, 1 failed while running, 2 could not start\n";

/* One running `muproxy -c`. */
struct daemon {
	struct conf conf;
	struct replica *replica;
	struct event_base *base; /* of the main thread: signals and the admin port */
	struct admin *admin;
	struct event *on_term, *on_int, *on_tick;
	struct event *on_watch; /* of what members chose; NULL: nothing was to be chosen */
	struct event *on_members;
	int pid_fd;
	int ticks;    /* since the drain began */
	bool removed; /* from the group */
	bool hangs;
	bool failed;         /* stopped though nobody asked for it */
	bool unfenced_reads; /* by a hidden option, see mp_proxy_options */
};

static void begin_drain(struct daemon *d)
{
	const struct timeval poll = {.tv_usec = DRAIN_POLL_US};

	replica_drain(d->replica);
	event_add(d->on_tick, &poll);
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
	struct daemon *d = ctx;

	(void)what;
	if (replica_draining(d->replica)) {
		mp_warn("signal %d again: stopping at once", (int)number);
		d->hangs = true;
		event_base_loopbreak(d->base);
		return;
	}
	mp_info("signal %d: draining", (int)number);
	begin_drain(d);
}

static void on_watch(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *d = ctx;
	char why[200];

	(void)fd;
	(void)what;
	if (replica_draining(d->replica) || !replica_outvoted(d->replica, why, sizeof(why)))
		return;
	mp_error("%s", why);
	d->failed = true;
	begin_drain(d);
}

static void on_members(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *d = ctx;

	(void)fd;
	(void)what;
	if (replica_look_at_members(d->replica) || d->removed)
		return;
	d->removed = true;
	mp_error("replica %u was removed from the group: its clients have to go elsewhere, and it "
		 "ends",
		 d->conf.mu.id);
	if (!replica_draining(d->replica))
		begin_drain(d);
}

static void on_drain_tick(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *d = ctx;
	int waited_ms = ++d->ticks * (DRAIN_POLL_US / 1000);

	(void)fd;
	(void)what;
	d->hangs = !replica_drained(d->replica) &&
		   waited_ms > (int)d->conf.drain_timeout_ms + DRAIN_GRACE_MS;
	if (d->hangs)
		mp_error("the data thread does not stop");
	if (d->hangs ||
	    (replica_drained(d->replica) && (!d->removed || waited_ms >= REMOVED_LINGER_MS)))
		event_base_loopbreak(d->base);
}

static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Every client needs a file; what the process itself needs is few. */
static rlim_t files_wanted(const struct conf *conf)
{
	unsigned protocols =
		(conf->proxy.redis_listen != NULL) + (conf->proxy.memcached_listen != NULL);

	return (rlim_t)protocols * conf->proxy.max_clients + 128;
}

static void check_file_limit(const struct conf *conf)
{
	rlim_t wanted = files_wanted(conf);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted)
		mp_warn("only %llu files may be open: max-clients = %u for each protocol would "
			"need %llu",
			(unsigned long long)limit.rlim_cur, conf->proxy.max_clients,
			(unsigned long long)wanted);
}

/*
 * Once there are threads, Linux lets whoever opens the 65th file, the 129th, and so on wait
 * for some milliseconds while it makes its table of files larger, and all clients with him.
 * So the table has room for all of them before there are threads.
 */
static void reserve_files(const struct conf *conf)
{
	rlim_t last = files_wanted(conf) - 1;
	struct rlimit limit;
	int fd;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= last)
		last = limit.rlim_cur - 1;
	fd = last <= INT_MAX ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, (int)last) : -1;
	if (fd >= 0)
		close(fd);
}

static bool watch_choice(struct daemon *d)
{
	const struct timeval period = {.tv_sec = WATCH_S};

	if (d->conf.fabric != CONF_FABRIC_AUTO)
		return true;
	d->on_watch = event_new(d->base, -1, EV_PERSIST, on_watch, d);
	return d->on_watch && event_add(d->on_watch, &period) == 0;
}

static bool watch_members(struct daemon *d)
{
	const struct timeval period = {.tv_usec = MEMBERS_MS * 1000};

	d->on_members = event_new(d->base, -1, EV_PERSIST, on_members, d);
	return d->on_members && event_add(d->on_members, &period) == 0;
}

static bool open_main_loop(struct daemon *d, char *err, size_t err_bytes)
{
	snprintf(err, err_bytes, "no event loop: %s", strerror(errno));
	d->base = event_base_new();
	if (!d->base)
		return false;
	d->on_term = evsignal_new(d->base, SIGTERM, on_signal, d);
	d->on_int = evsignal_new(d->base, SIGINT, on_signal, d);
	d->on_tick = event_new(d->base, -1, EV_PERSIST, on_drain_tick, d);
	if (!d->on_term || !d->on_int || !d->on_tick || event_add(d->on_term, NULL) < 0 ||
	    event_add(d->on_int, NULL) < 0 || !watch_choice(d) || !watch_members(d))
		return false;
	if (d->conf.admin_listen)
		d->admin = admin_open(d->base, &d->conf, d->replica, err, err_bytes);
	return d->admin || !d->conf.admin_listen;
}

/* Everything that can be wrong is found here, before any thread runs. */
static bool start(struct daemon *d, const char *file, char *err, size_t err_bytes)
{
	char why[400];

	if (conf_load(&d->conf, file, err, err_bytes) < 0)
		return false;
	mp_log_init((enum mp_log_level)d->conf.log_level, d->conf.mu.id);
	d->conf.proxy.unfenced_reads = d->unfenced_reads;
	if (d->unfenced_reads)
		mp_warn("--test-unfenced-reads: reads may answer with the past");
	if (d->conf.pid_file) {
		d->pid_fd = pidfile_take(d->conf.pid_file, why, sizeof(why));
		if (d->pid_fd < 0) {
			snprintf(err, err_bytes, "%s:%d: pid-file: %s", file,
				 conf_blame(&d->conf, why, "pid-file"), why);
			return false;
		}
	}
	raise_file_limit();
	reserve_files(&d->conf);
	d->replica = replica_open(&d->conf, err, err_bytes);
	if (!d->replica || !open_main_loop(d, err, err_bytes))
		return false;
	if (replica_start(d->replica) == 0)
		return true;
	snprintf(err, err_bytes, "%s: cannot start threads: %s", file, strerror(errno));
	return false;
}

/* False: a thread hangs, and what it uses cannot be freed. */
static bool stop(struct daemon *d)
{
	admin_close(d->admin);
	if (d->replica && !replica_close(d->replica))
		return false;
	if (d->on_term)
		event_free(d->on_term);
	if (d->on_int)
		event_free(d->on_int);
	if (d->on_tick)
		event_free(d->on_tick);
	if (d->on_watch)
		event_free(d->on_watch);
	if (d->on_members)
		event_free(d->on_members);
	if (d->base)
		event_base_free(d->base);
	if (d->pid_fd >= 0)
		pidfile_release(d->conf.pid_file, d->pid_fd);
	conf_free(&d->conf);
	return true;
}

static int run(const char *file, bool unfenced_reads)
{
	struct daemon d = {.pid_fd = -1, .unfenced_reads = unfenced_reads};
	char err[800];

	signal(SIGPIPE, SIG_IGN);
	if (!start(&d, file, err, sizeof(err))) {
		fprintf(stderr, "muproxy: %s\n", err);
		stop(&d);
		return EXIT_CANNOT_START;
	}
	mp_info("muproxy %s, replica %u of group '%s': redis %s, memcached %s, admin %s",
		PACKAGE_VERSION, d.conf.mu.id, d.conf.group,
		d.conf.proxy.redis_listen ? d.conf.proxy.redis_listen : "off",
		d.conf.proxy.memcached_listen ? d.conf.proxy.memcached_listen : "off",
		d.conf.admin_listen ? d.conf.admin_listen : "off");
	check_file_limit(&d.conf);
	event_base_dispatch(d.base);
	if (d.hangs || !stop(&d)) {
		if (d.pid_fd >= 0)
			pidfile_release(d.conf.pid_file, d.pid_fd);
		_exit(EXIT_FAILED);
	}
	mp_info("stopped");
	return d.failed ? EXIT_FAILED : EXIT_OK;
}

static int check(const char *file)
{
	struct conf conf;
	char err[800];
	int rc = conf_load(&conf, file, err, sizeof(err));

	conf_free(&conf);
	if (rc < 0) {
		fprintf(stderr, "muproxy: %s\n", err);
		return EXIT_CANNOT_START;
	}
	printf("%s: ok\n", file);
	return EXIT_OK;
}

static int list_devices(void)
{
	int ports = fabric_verbs_list();

	if (ports < 0)
		fputs("muproxy: this build has no verbs (configure --with-verbs)\n", stderr);
	else if (ports == 0)
		fputs("muproxy: there is no RDMA device\n", stderr);
	return ports > 0 ? EXIT_OK : EXIT_FAILED;
}

static int usage_error(const char *what)
{
	fprintf(stderr, "muproxy: %s (try muproxy --help)\n", what);
	return EXIT_CANNOT_START;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check-config", required_argument, NULL, 'C'},
		{"list-devices", no_argument, NULL, 'L'},
		{"test-unfenced-reads", no_argument, NULL, 'U'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	const char *file = NULL;
	bool check_only = false, unfenced_reads = false;
	int c;

	if (argc > 1 && strcmp(argv[1], "dev") == 0)
		return dev_main(argc - 1, argv + 1);
	while ((c = getopt_long(argc, argv, "c:hV", options, NULL)) != -1) {
		switch (c) {
		case 'C':
			check_only = true;
			/* fall through */
		case 'c':
			file = optarg;
			break;
		case 'L':
			return list_devices();
		case 'U':
			unfenced_reads = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return EXIT_OK;
		case 'V':
			puts("muproxy " PACKAGE_VERSION);
			return EXIT_OK;
		default:
			return EXIT_CANNOT_START; /* getopt_long has said what is wrong */
		}
	}
	if (optind < argc)
		return usage_error("too many arguments");
	if (!file)
		return usage_error("no configuration given");
	return check_only ? check(file) : run(file, unfenced_reads);
}
