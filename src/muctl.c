/*
 * muctl.c - the operator's tool: asks a replica's admin port and shows the
 * answer. Exit codes: 0 all well, 1 the replica cannot be reached, refuses, or
 * answers nonsense, 2 wrong usage.
 */
#include "config.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "muctl_ask.h"
#include "muctl_members.h"

enum {
	HANDOVER_MS = 10000, /* for another replica to lead */
	POLL_MS = 10,
};

static const char usage_text[] =
	"usage: muctl [--admin HOST:PORT] status [--json]\n"
	"       muctl [--admin HOST:PORT] transfer-leader [ID]\n"
	"       muctl [--admin HOST:PORT] drain [--end]\n"
	"       muctl [--admin HOST:PORT] add HOST:PORT...\n"
	"       muctl [--admin HOST:PORT] remove ID\n"
	"       muctl [--admin HOST:PORT] replace ID HOST:PORT...\n"
	"       muctl [--admin HOST:PORT] recover --accept-loss\n"
	"       muctl [--admin HOST:PORT] restore --replace\n"
	"\n"
	"  status              a table of the group as that replica sees it\n"
	"  transfer-leader     the leader, which --admin must name, makes way for replica\n"
	"                      ID, or for whichever is fit; waits until that one leads\n"
	"  drain               before maintenance: that replica hands over, if it leads,\n"
	"                      and leads no more while others can; its /healthz says 503,\n"
	"                      its clients are served until it is stopped. --end: no longer\n"
	"  add                 make replicas members of the group that run already, with\n"
	"                      join in their configuration: by the addresses of their\n"
	"                      [member] sections, or their ids. Said to the leader; each\n"
	"                      is given the group's state first, and then counts\n"
	"  remove              take a replica out of the group, for good: its id is not\n"
	"                      used again, and it ends. Said to the leader, of whichever;\n"
	"                      a leader that is removed hands over first\n"
	"  replace             add, and then remove\n"
	"  recover             go on where most replicas have lost their memory for\n"
	"                      good: say it to each one that has not (all are to run).\n"
	"                      The group starts anew from the server that has applied\n"
	"                      most; --accept-loss: what only lost memories held is lost\n"
	"  restore             give that replica's redis the state of another one's, where\n"
	"                      it does not come to that by itself: it is of another group,\n"
	"                      ahead of the log, or was written to by somebody else;\n"
	"                      --replace: what it holds now is lost\n"
	"\n"
	"  --admin HOST:PORT   the admin address of any replica (127.0.0.1:7301). add, remove\n"
	"                      and replace take it several times: they ask whoever leads,\n"
	"                      and if he is lost midway go on at the next one\n"
	"  --json              the same as JSON\n"
	"  --help, --version\n"
	"\n"
	"exit code: 0, 1 if the replica cannot be reached or refuses, 2 for wrong usage\n";

static int usage_error(const char *what)
{
	fprintf(stderr, "muctl: %s (try muctl --help)\n", what);
	return EXIT_USAGE;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "?";
}

static json_int_t number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *yes(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key)) ? "yes" : "no";
}

/* "5.2" for round 5 of replica 2: how a ballot is made (mu.h). */
static void print_ballot(char *out, size_t cap, json_int_t ballot)
{
	if (ballot)
		snprintf(out, cap, "%" JSON_INTEGER_FORMAT ".%" JSON_INTEGER_FORMAT, ballot >> 8,
			 ballot & 0xff);
	else
		snprintf(out, cap, "-");
}

static void print_header(const json_t *status)
{
	json_int_t leader = number_of(status, "leader");
	bool serving = json_is_true(json_object_get(status, "serving"));
	char ballot[48];

	print_ballot(ballot, sizeof(ballot), number_of(status, "ballot"));
	printf("group %s over %s, seen from replica %" JSON_INTEGER_FORMAT ": ",
	       text_of(status, "group"), text_of(status, "fabric"), number_of(status, "id"));
	if (leader)
		printf("leader %" JSON_INTEGER_FORMAT ", ballot %s; ", leader, ballot);
	else
		printf("no leader; ");
	if (serving)
		printf("serving\n");
	else
		printf("not serving: %s\n", text_of(status, "reason"));
	if (json_string_length(json_object_get(status, "change")) > 0)
		printf("members: %s\n", text_of(status, "change"));
	printf("\n");
}

static void print_replica(const json_t *replica, int address_width)
{
	const char *alive = yes(replica, "alive");
	char ballot[48];

	print_ballot(ballot, sizeof(ballot), number_of(replica, "ballot"));
	printf("%2" JSON_INTEGER_FORMAT "  %-*s  %-9s  %8s  %-5s  %5" JSON_INTEGER_FORMAT
	       "  %-9s  %12" JSON_INTEGER_FORMAT "  %12" JSON_INTEGER_FORMAT
	       "  %10" JSON_INTEGER_FORMAT "  %s\n",
	       number_of(replica, "id"), address_width, text_of(replica, "address"),
	       text_of(replica, "role"), ballot, alive, number_of(replica, "score"),
	       yes(replica, "confirmed"), number_of(replica, "commit_lsn"),
	       number_of(replica, "applied_lsn"), number_of(replica, "lag_bytes"),
	       text_of(replica, "backend"));
}

/* State transfer to and from the replica that was asked. */
static void print_restore(const json_t *restore)
{
	json_int_t donations = number_of(restore, "donations");

	if (strcmp(text_of(restore, "stage"), "none") != 0)
		printf("\nits %s is being restored: %s\n", text_of(restore, "backend"),
		       text_of(restore, "words"));
	if (donations > 0)
		printf("\n%" JSON_INTEGER_FORMAT " other replica(s) being restored from it\n",
		       donations);
}

static void print_table(const json_t *status)
{
	const json_t *replicas = json_object_get(status, "replicas");
	int width = (int)strlen("ADDRESS");
	json_t *replica;
	size_t i;

	json_array_foreach(replicas, i, replica)
	{
		int n = (int)strlen(text_of(replica, "address"));

		width = n > width ? n : width;
	}
	print_header(status);
	printf("%2s  %-*s  %-9s  %8s  %-5s  %5s  %-9s  %12s  %12s  %10s  %s\n", "ID", width,
	       "ADDRESS", "ROLE", "BALLOT", "ALIVE", "SCORE", "CONFIRMED", "COMMIT", "APPLIED",
	       "LAG", "BACKEND");
	json_array_foreach(replicas, i, replica) print_replica(replica, width);
	print_restore(json_object_get(json_object_get(status, "proxy"), "restore"));
}

static int show_status(const char *admin, bool as_json)
{
	int code;
	json_t *status = muctl_status(admin, &code);

	if (!status)
		return code;
	if (as_json) {
		json_dumpf(status, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
	} else {
		print_table(status);
	}
	json_decref(status);
	return EXIT_OK;
}

static int recover(const char *admin, bool accept_loss)
{
	if (!accept_loss)
		return usage_error("recover loses what only lost memories held: say --accept-loss");
	return muctl_wish(admin, "/recover?accept-loss");
}

static int restore(const char *admin, bool replace)
{
	if (!replace)
		return usage_error("restore loses what its redis holds now: say --replace");
	return muctl_wish(admin, "/restore?replace");
}

/* Who leads as that replica sees it; 0: nobody, or it does not say. *self: its own id. */
static int leader_seen(const char *admin, int *self)
{
	json_t *status = muctl_look(admin);
	int leader = (int)number_of(status, "leader");

	*self = (int)number_of(status, "id");
	json_decref(status);
	return leader;
}

/* Wait until another than that replica leads. */
static int await_successor(const char *admin)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};

	for (int waited_ms = 0; waited_ms < HANDOVER_MS; waited_ms += POLL_MS) {
		int self = 0, leader = leader_seen(admin, &self);

		if (leader && leader != self) {
			printf("replica %d leads\n", leader);
			return EXIT_OK;
		}
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "muctl: %s: no other replica leads within %d ms\n", admin, HANDOVER_MS);
	return EXIT_UNREACHABLE;
}

static int transfer_leader(const char *admin, const char *id)
{
	char path[64];
	int rc;

	if (id && (strlen(id) > 2 || strspn(id, "0123456789") != strlen(id) || *id == '0'))
		return usage_error("transfer-leader takes the id of a replica");
	snprintf(path, sizeof(path), "/transfer-leader%s%s", id ? "?to=" : "", id ? id : "");
	rc = muctl_wish(admin, path);
	return rc == EXIT_OK ? await_successor(admin) : rc;
}

static int drain(const char *admin, bool ends)
{
	int self = 0, rc = muctl_wish(admin, ends ? "/drain?end" : "/drain");

	if (rc != EXIT_OK || ends || leader_seen(admin, &self) != self)
		return rc;
	return await_successor(admin);
}

static bool is_id(const char *text)
{
	return text && strlen(text) == 1 && *text >= '1' && *text <= '9';
}

/* What is given behind the command; the exit code. */
static int change_members(const struct muctl_admins *admins, char *const *words, int count)
{
	bool adds = strcmp(words[0], "add") == 0, replaces = strcmp(words[0], "replace") == 0;

	if (adds)
		return count > 1 ? muctl_add(admins, words + 1, count - 1)
				 : usage_error("add takes the addresses of replicas that run");
	if (count < 2 || !is_id(words[1]))
		return usage_error(replaces ? "replace takes the id of a replica, and addresses"
					    : "remove takes the id of a replica");
	if (replaces)
		return count > 2 ? muctl_replace(admins, words[1], words + 2, count - 2)
				 : usage_error("replace takes addresses of replicas that run");
	return count == 2 ? muctl_remove(admins, words[1]) : usage_error("too many arguments");
}

static bool changes_members(const char *command)
{
	return strcmp(command, "add") == 0 || strcmp(command, "remove") == 0 ||
	       strcmp(command, "replace") == 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"admin", required_argument, NULL, 'a'}, {"json", no_argument, NULL, 'j'},
		{"accept-loss", no_argument, NULL, 'l'}, {"end", no_argument, NULL, 'e'},
		{"replace", no_argument, NULL, 'r'},     {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},     {NULL, 0, NULL, 0},
	};
	struct muctl_admins admins = {.address = {"127.0.0.1:7301"}};
	const char *admin;
	bool as_json = false, accept_loss = false, ends = false, replace = false;
	int c, takes;

	while ((c = getopt_long(argc, argv, "a:jhV", options, NULL)) != -1) {
		switch (c) {
		case 'a':
			if (admins.count == MU_MAX_REPLICAS)
				return usage_error("--admin is given too often");
			admins.address[admins.count++] = optarg;
			break;
		case 'j':
			as_json = true;
			break;
		case 'l':
			accept_loss = true;
			break;
		case 'e':
			ends = true;
			break;
		case 'r':
			replace = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return EXIT_OK;
		case 'V':
			puts("muctl " PACKAGE_VERSION);
			return EXIT_OK;
		default:
			return EXIT_USAGE; /* getopt_long has said what is wrong */
		}
	}
	if (optind == argc)
		return usage_error("no command given");
	if (changes_members(argv[optind]))
		return change_members(&admins, argv + optind, argc - optind);
	if (admins.count > 1)
		return usage_error("only add, remove and replace take several --admin");
	admin = admins.address[0];
	takes = strcmp(argv[optind], "transfer-leader") == 0;
	if (optind + 1 + takes < argc)
		return usage_error("too many arguments");
	if (takes)
		return transfer_leader(admin, argv[optind + 1]);
	if (strcmp(argv[optind], "drain") == 0)
		return drain(admin, ends);
	if (strcmp(argv[optind], "recover") == 0)
		return recover(admin, accept_loss);
	if (strcmp(argv[optind], "restore") == 0)
		return restore(admin, replace);
	if (strcmp(argv[optind], "status") != 0) {
		fprintf(stderr, "muctl: unknown command '%s' (try muctl --help)\n", argv[optind]);
		return EXIT_USAGE;
	}
	return show_status(admin, as_json);
}
