/* dev_options.c - see dev_options.h. */
#include "config.h"

#include "dev_options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf_value.h"
#include "mu.h"

enum { EXIT_USAGE = 2 };

void dev_complain(const char *format, ...)
{
	va_list args;

	fputs("muproxy dev: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static const char usage_text[] =
	"usage: muproxy dev [options]\n"
	"\n"
	"Runs a group of replicas on this machine, each with a redis-server and a\n"
	"memcached of its own. Replica i listens on PORT + i - 1, on 127.0.0.1 alone.\n"
	"Ctrl-C or SIGTERM stops everything and removes it.\n"
	"\n"
	"  --dir DIR             where its files go (a new folder under /tmp)\n"
	"  --replicas N          3, 5 or 7 (3)\n"
	"  --fabric shm|tcp|verbs  how the replicas reach each other's memory (shm)\n"
	"  --redis-port PORT     of replica 1 (7101)\n"
	"  --memcached-port PORT of replica 1 (7201)\n"
	"  --admin-port PORT     of replica 1 (7301)\n"
	"  --peer-port PORT      of replica 1, for the other replicas (7401; with --fabric shm\n"
	"                        none, unless given: then members can be added)\n"
	"  --log-level LEVEL     error, warn, info or debug (info)\n"
	"  --ring-size SIZE      of each replica's log, e.g. 64M (up to 256M, as there is room)\n"
	"  --seed HOST:PORT      begin with the data of that Redis\n"
	"  --memcached-seed HOST:PORT\n"
	"                        begin with the data of that memcached\n"
	"  --keep                leave configurations and logs in DIR when it stops\n";

static bool take_number(const char *option, const char *text, int least, int most, int *number)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (end == text || *end || value < least || value > most) {
		dev_complain("--%s: '%s' is not a number from %d to %d", option, text, least, most);
		return false;
	}
	*number = (int)value;
	return true;
}

static bool take_option(struct dev_options *o, const char *name, const char *value)
{
	char why[200];
	int number;

	if (strcmp(name, "dir") == 0) {
		o->dir = value;
	} else if (strcmp(name, "seed") == 0) {
		o->seed = value;
	} else if (strcmp(name, "memcached-seed") == 0) {
		o->memcached_seed = value;
	} else if (strcmp(name, "log-level") == 0) {
		o->log_level = value;
	} else if (strcmp(name, "ring-size") == 0) {
		if (!conf_parse_bytes(value, &o->ring_bytes, why, sizeof(why))) {
			dev_complain("--ring-size: %s", why);
			return false;
		}
	} else if (strcmp(name, "fabric") == 0) {
		if (strcmp(value, "shm") != 0 && strcmp(value, "tcp") != 0 &&
		    strcmp(value, "verbs") != 0) {
			dev_complain("--fabric: '%s' is not one of: shm, tcp, verbs", value);
			return false;
		}
		o->fabric = value;
	} else if (strcmp(name, "replicas") == 0) {
		if (!take_number(name, value, 3, MU_MAX_REPLICAS, &number))
			return false;
		if (number % 2 == 0) {
			dev_complain(
				"--replicas: %d tolerates no more failures than %d: take 3, 5 or 7",
				number, number - 1);
			return false;
		}
		o->replicas = (unsigned)number;
	} else {
		int *port = strcmp(name, "redis-port") == 0       ? &o->redis_port
			    : strcmp(name, "memcached-port") == 0 ? &o->memcached_port
			    : strcmp(name, "peer-port") == 0      ? &o->peer_port
								  : &o->admin_port;

		return take_number(name, value, 1, 65535 - MU_MAX_REPLICAS, port);
	}
	return true;
}

int dev_take_options(struct dev_options *o, int argc, char **argv)
{
	static const struct option options[] = {
		{"dir", required_argument, NULL, 'o'},
		{"replicas", required_argument, NULL, 'o'},
		{"fabric", required_argument, NULL, 'o'},
		{"redis-port", required_argument, NULL, 'o'},
		{"memcached-port", required_argument, NULL, 'o'},
		{"admin-port", required_argument, NULL, 'o'},
		{"peer-port", required_argument, NULL, 'o'},
		{"log-level", required_argument, NULL, 'o'},
		{"ring-size", required_argument, NULL, 'o'},
		{"seed", required_argument, NULL, 'o'},
		{"memcached-seed", required_argument, NULL, 'o'},
		{"keep", no_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c, which = 0;

	*o = (struct dev_options){
		.replicas = 3,
		.redis_port = 7101,
		.memcached_port = 7201,
		.admin_port = 7301,
		.fabric = "shm",
		.log_level = "info",
	};
	while ((c = getopt_long(argc, argv, "h", options, &which)) != -1) {
		if (c == 'h') {
			fputs(usage_text, stdout);
			return EXIT_SUCCESS;
		}
		if (c == 'k')
			o->keep = true;
		else if (c != 'o' || !take_option(o, options[which].name, optarg))
			return EXIT_USAGE;
	}
	if (optind < argc) {
		dev_complain("unknown argument '%s' (try --help)", argv[optind]);
		return EXIT_USAGE;
	}
	if (o->peer_port == 0 && strcmp(o->fabric, "shm") != 0)
		o->peer_port = 7401;
	return -1;
}
