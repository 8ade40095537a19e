/* commands.c - what a transcript can say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "words.h"

#define UNTIL_LIMIT_NS UINT64_C(2000000000)
#define STUCK_NS (UINT64_C(1) << 50)

/* ------------------------------------------------------------------- the group */

static bool take_group_setting(struct words *words, struct group_options *options)
{
	uint64_t number;
	const char *value;

	if (take_number(words, "ring", &options->ring_bytes) ||
	    take_number(words, "entry", &options->entry_bytes) ||
	    take_number(words, "proposal", &options->proposal_bytes) ||
	    take_number(words, "piece", &options->piece_bytes))
		return true;
	if ((value = take_setting(words, "stall")) != NULL)
		return parse_time(value, &options->stall_ns);
	if ((value = take_setting(words, "timeout")) != NULL)
		return parse_time(value, &options->op_timeout_ns);
	if (take_number(words, "members", &number)) {
		options->members = (unsigned)number;
		return true;
	}
	if (take_number(words, "tear", &number)) {
		options->tear_permille = (unsigned)number;
		return true;
	}
	if (take_number(words, "late", &number)) {
		options->late_permille = (unsigned)number;
		return true;
	}
	if (take_word(words, "tcp")) {
		options->tcp = true;
		return true;
	}
	if (take_word(words, "verbs")) {
		options->verbs = true;
		return true;
	}
	return false;
}

static void begin_group(struct scenario *scenario, const struct group_options *options,
			uint64_t leader, struct words *words)
{
	group_create(scenario, options);
	if (!leader)
		return;
	if (leader > options->replicas || !group_settle(scenario, (unsigned)leader))
		words->wrong = "that leader does not come about";
	say_clear(scenario);
}

static void do_group(struct scenario *scenario, struct words *words)
{
	struct group_options options;
	const char *word = next_word(words);
	uint64_t leader = 0;

	group_defaults(&options);
	options.replicas = word != NULL ? (unsigned)atoi(word) : 0;
	if (options.replicas < 1 || options.replicas > MU_MAX_REPLICAS || group_exists(scenario)) {
		words->wrong = "one group of 1 to 7 replicas";
		return;
	}
	while (words->at < words->count && words->wrong == NULL) {
		if (!take_number(words, "leader", &leader) &&
		    !take_group_setting(words, &options) && words->wrong == NULL)
			words->wrong = "no such setting";
	}
	if (words->wrong == NULL)
		begin_group(scenario, &options, leader, words);
}

static void do_start(struct scenario *scenario, struct words *words)
{
	do {
		unsigned id = take_id(scenario, words);

		if (words->wrong == NULL && scenario->run.node[id].alive)
			words->wrong = "that replica runs";
		if (words->wrong == NULL)
			group_start(scenario, id);
	} while (words->wrong == NULL && words->at < words->count);
}

static void do_crash(struct scenario *scenario, struct words *words)
{
	unsigned ids = 0;

	while (at_id(words))
		ids |= 1u << take_id(scenario, words);
	if (words->wrong != NULL || !ids) {
		words->wrong = "which replicas?";
		return;
	}
	bool lose = take_word(words, "memory-lost");

	for (unsigned id = 1; id <= scenario->run.plan.replicas; id++)
		if ((ids >> id & 1) && (lose || scenario->run.node[id].alive))
			group_crash(scenario, id, lose);
}

/* Both planes, or the one named. */
static unsigned take_planes(struct words *words)
{
	if (take_word(words, "data"))
		return 1u << MU_PLANE_DATA;
	if (take_word(words, "background"))
		return 1u << MU_PLANE_BACKGROUND;
	return (1u << MU_PLANES) - 1;
}

static void each_plane(struct scenario *scenario, struct words *words,
		       void (*act)(struct scenario *, unsigned, enum mu_plane))
{
	unsigned id = take_living(scenario, words);
	unsigned planes = take_planes(words);

	for (unsigned plane = 0; plane < MU_PLANES && words->wrong == NULL; plane++)
		if (planes >> plane & 1)
			act(scenario, id, plane);
}

static void do_pause(struct scenario *scenario, struct words *words)
{
	each_plane(scenario, words, group_pause);
}

static void do_go(struct scenario *scenario, struct words *words)
{
	each_plane(scenario, words, group_go);
}

static void do_stop(struct scenario *scenario, struct words *words)
{
	scenario->stop_count +=
		take_conditions(scenario, words, scenario->stops + scenario->stop_count,
				STOPS_MAX - scenario->stop_count);
}

/* ------------------------------------------------------------------------ links */

static void set_link(struct scenario *scenario, unsigned from, unsigned to, unsigned planes,
		     bool blocked)
{
	for (unsigned plane = 0; plane < MU_PLANES; plane++)
		if (planes >> plane & 1)
			sim_block_plane(scenario->run.world, plane, from, to, blocked);
}

/* "A B": both directions; "A > B": what A sends; "A": all links of A. */
static void set_links(struct scenario *scenario, struct words *words, bool blocked)
{
	unsigned a = take_id(scenario, words), b = 0;
	bool one_way = take_word(words, ">");

	if (one_way || at_id(words))
		b = take_id(scenario, words);
	if (words->wrong != NULL)
		return;
	unsigned planes = take_planes(words);

	for (unsigned id = 1; id <= scenario->run.plan.replicas; id++) {
		if (id == a || (b && id != b))
			continue;
		set_link(scenario, a, id, planes, blocked);
		if (!one_way)
			set_link(scenario, id, a, planes, blocked);
	}
}

static void do_cut(struct scenario *scenario, struct words *words)
{
	set_links(scenario, words, true);
}

static void do_heal(struct scenario *scenario, struct words *words)
{
	if (words->at < words->count) {
		set_links(scenario, words, false);
		return;
	}
	for (unsigned from = 1; from <= scenario->run.plan.replicas; from++)
		for (unsigned to = 1; to <= scenario->run.plan.replicas; to++) {
			sim_block(scenario->run.world, from, to, false);
			sim_slow(scenario->run.world, from, to, 1);
		}
}

static void do_slow(struct scenario *scenario, struct words *words)
{
	unsigned a = take_id(scenario, words), b = take_id(scenario, words);
	const char *times = next_word(words);
	int factor = times != NULL ? atoi(times) : 0;

	if (factor < 1)
		words->wrong = "how many times slower?";
	if (words->wrong != NULL)
		return;
	sim_slow(scenario->run.world, a, b, (unsigned)factor);
	sim_slow(scenario->run.world, b, a, (unsigned)factor);
}

/* ------------------------------------------------------------------------- time */

static void do_run(struct scenario *scenario, struct words *words)
{
	uint64_t for_ns;

	if (parse_time(next_word(words), &for_ns))
		group_run(scenario, for_ns);
	else
		words->wrong = "for how many ms or us?";
}

static void do_until(struct scenario *scenario, struct words *words)
{
	scenario->wait_count = take_conditions(scenario, words, scenario->waits, CONDITIONS_MAX);
	if (words->wrong == NULL && !group_run_until(scenario, UNTIL_LIMIT_NS))
		say(scenario, 0, SAY_ALWAYS, "(did not happen)");
	scenario->wait_count = 0;
}

/* ---------------------------------------------------------------------- clients */

static void ask(struct scenario *scenario, struct words *words, bool read)
{
	unsigned id = take_living(scenario, words);
	struct asked asked = {.read = read, .bytes = 8};
	uint64_t bytes = 8;

	take_number(words, "bytes", &bytes);
	asked.bytes = bytes;
	if (words->at == words->count)
		words->wrong = "under which name?";
	while (words->wrong == NULL && words->at < words->count) {
		snprintf(asked.name, sizeof(asked.name), "%s", next_word(words));
		if (!clients_ask(scenario, id, &asked))
			words->wrong = "too much asked for at once";
	}
	if (words->wrong == NULL)
		node_wake(&scenario->run.node[id], MU_PLANE_DATA, 0);
}

static void do_propose(struct scenario *scenario, struct words *words)
{
	ask(scenario, words, false);
}

static void do_read(struct scenario *scenario, struct words *words)
{
	ask(scenario, words, true);
}

static void do_resign(struct scenario *scenario, struct words *words)
{
	unsigned id = take_living(scenario, words);

	scenario->run.node[id].process.wants_resign = true;
	node_wake(&scenario->run.node[id], MU_PLANE_DATA, 0);
}

static void do_handover(struct scenario *scenario, struct words *words)
{
	unsigned id = take_living(scenario, words);
	unsigned heir = take_living(scenario, words);
	const char *why;

	if (words->wrong != NULL)
		return;
	if (mu_hand_over(scenario->run.node[id].process.mu, heir, &why) != MU_OK)
		say(scenario, id, SAY_ALWAYS, "refuses: %s", why);
}

static void do_change(struct scenario *scenario, struct words *words)
{
	unsigned id = take_living(scenario, words);
	enum mu_change change = take_word(words, "add") ? MU_CHANGE_ADD : MU_CHANGE_REMOVE;
	const char *why;

	if (change == MU_CHANGE_REMOVE && !take_word(words, "remove"))
		words->wrong = "add or remove?";
	unsigned whom = take_id(scenario, words);

	if (words->wrong == NULL &&
	    mu_change_members(scenario->run.node[id].process.mu, change, whom, &why) != MU_OK)
		say(scenario, id, SAY_ALWAYS, "refuses: %s", why);
}

static void do_recover(struct scenario *scenario, struct words *words)
{
	unsigned id = take_living(scenario, words);
	const char *why;

	if (words->wrong != NULL)
		return;
	if (mu_accept_loss(scenario->run.node[id].process.mu, &why) == MU_OK)
		scenario->run.recovering = true;
	else
		say(scenario, id, SAY_ALWAYS, "refuses: %s", why);
}

/* A bit of the entry that the commit word names falls over. */
static void do_spoil(struct scenario *scenario, struct words *words)
{
	unsigned id = take_living(scenario, words);
	const struct mu *mu;

	if (words->wrong != NULL)
		return;
	mu = scenario->run.node[id].process.mu;
	if (mu->header->commit != MU_LSN_NONE)
		mu_ring_at(&mu->ring, mu->header->commit)->checksum ^= 1;
}

/* --------------------------------------------------------------------- backends */

static void unstick(struct node *node)
{
	struct backend_queue *queue = &node->process.queue;

	node->backend.apply_max_ns = 0;
	for (unsigned i = 0; i < BACKEND_QUEUE_MAX; i++)
		queue->slots[i].done_ns = 0;
}

static void do_backend(struct scenario *scenario, struct words *words)
{
	unsigned id = take_id(scenario, words);
	struct node *node = &scenario->run.node[id];

	if (words->wrong != NULL)
		return;
	if (take_word(words, "down"))
		backend_disconnect(node);
	else if (take_word(words, "up"))
		node->backend.up = true;
	else if (take_word(words, "stuck"))
		node->backend.apply_max_ns = STUCK_NS;
	else if (take_word(words, "unstuck"))
		unstick(node);
	else if (take_word(words, "emptied"))
		backend_lose(node, -1);
	else if (take_word(words, "restored"))
		backend_transfer(node);
	else
		words->wrong = "down, up, stuck, unstuck, emptied or restored?";
	if (node->alive)
		node_wake(node, MU_PLANE_DATA, 0);
}

static void do_clock(struct scenario *scenario, struct words *words)
{
	unsigned id = take_id(scenario, words);
	const char *word = next_word(words);

	if (words->wrong == NULL && word != NULL)
		scenario->run.node[id].wall_offset_ms += atoll(word);
	else
		words->wrong = "by how many ms?";
}

/* ------------------------------------------------------------------- inspection */

static void show(struct scenario *scenario, struct words *words, bool shown)
{
	while (words->at < words->count)
		if (!say_show(scenario, next_word(words), shown))
			words->wrong = "there is no such class of events";
}

static void do_show(struct scenario *scenario, struct words *words)
{
	show(scenario, words, true);
}

static void do_hide(struct scenario *scenario, struct words *words)
{
	show(scenario, words, false);
}

static void do_log(struct scenario *scenario, struct words *words)
{
	unsigned ids = 0;
	uint64_t last = 1000;

	while (at_id(words))
		ids |= 1u << take_id(scenario, words);
	take_number(words, "last", &last);
	for (unsigned id = 1; id <= scenario->run.plan.replicas; id++)
		if (!ids || (ids >> id & 1))
			say_log(scenario, id, (unsigned)last);
}

static void do_status(struct scenario *scenario, struct words *words)
{
	(void)words;
	say_status(scenario);
}

static void do_permissions(struct scenario *scenario, struct words *words)
{
	(void)words;
	say_permissions(scenario);
}

static void do_scores(struct scenario *scenario, struct words *words)
{
	unsigned id = take_living(scenario, words);

	if (words->wrong == NULL)
		say_scores(scenario, id);
}

/* ------------------------------------------------------------------- the table */

static const struct command {
	const char *name;
	const char *arguments;
	const char *help;
	void (*execute)(struct scenario *, struct words *);
} commands[] = {
	{"group", "N [leader=ID] [SETTING=VALUE...]",
	 "N replicas, blank and down, or led by ID, level and idle; ring, entry, proposal, piece "
	 "(bytes), "
	 "stall, timeout (times), tear, "
	 "late (permille), tcp, verbs; members: how many of them, the first, are that to begin "
	 "with",
	 do_group},
	{"show", "CLASS...", "print events of these classes from now on", do_show},
	{"hide", "CLASS...", "no longer", do_hide},
	{"start", "ID...", "start processes", do_start},
	{"crash", "ID... [memory-lost]", "processes die, with or without their memory", do_crash},
	{"pause", "ID [data|background]", "a plane, or both, runs no further", do_pause},
	{"go", "ID [data|background]", "it goes on", do_go},
	{"stop", "ID EVENT [and ID EVENT...]",
	 "the plane that does this stops right there, in the middle of its turn", do_stop},
	{"cut", "A [[>] B] [data|background]", "messages no longer arrive", do_cut},
	{"heal", "[A [[>] B] [data|background]]", "they arrive again", do_heal},
	{"slow", "A B TIMES", "a link is slower", do_slow},
	{"run", "TIME", "let time pass", do_run},
	{"until", "ID EVENT [and ID EVENT...]", "let time pass until this has happened", do_until},
	{"propose", "ID [bytes=N] NAME...", "clients ask a replica to write", do_propose},
	{"read", "ID NAME...", "clients ask a replica for a fenced read", do_read},
	{"resign", "ID", "the replica is asked to give up leading", do_resign},
	{"handover", "ID ID", "the one is asked to make way for the other", do_handover},
	{"change", "ID add|remove ID",
	 "the one, leading, is asked to make the other a member, or none", do_change},
	{"recover", "ID", "an operator tells it to go on without what lost memories held",
	 do_recover},
	{"spoil", "ID", "its memory is damaged, where the last committed entry is", do_spoil},
	{"backend", "ID down|up|stuck|unstuck|emptied|restored",
	 "what befalls the server beside a replica", do_backend},
	{"clock", "ID MS", "a replica's wall clock jumps", do_clock},
	{"log", "[ID...] [last=N]",
	 "entries in memory; | stands behind the one that the commit word names", do_log},
	{"status", "", "a line about every replica", do_status},
	{"permissions", "", "who may write whose log", do_permissions},
	{"scores", "ID", "the pull-scores that a replica keeps", do_scores},
};
#define COMMANDS (sizeof(commands) / sizeof(*commands))

void command_help(FILE *out)
{
	for (unsigned i = 0; i < COMMANDS; i++)
		fprintf(out, "  %s %s\n        %s\n", commands[i].name, commands[i].arguments,
			commands[i].help);
}

static const struct command *command_of(const char *name)
{
	for (unsigned i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* Without a group there is nothing to talk about. */
static bool needs_group(const struct command *command)
{
	return command->execute != do_group && command->execute != do_show &&
	       command->execute != do_hide;
}

void command_execute(struct scenario *scenario, const char *text)
{
	char copy[1024];
	struct words words = {.count = 0};
	const struct command *command;
	char *rest = NULL;

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *word = strtok_r(copy, " ", &rest); word != NULL && words.count < WORDS_MAX;
	     word = strtok_r(NULL, " ", &rest))
		words.word[words.count++] = word;
	command = words.count ? command_of(words.word[0]) : NULL;
	words.at = 1;
	if (command == NULL)
		words.wrong = "there is no such command";
	else if (needs_group(command) && !group_exists(scenario))
		words.wrong = "there is no group yet";
	else
		command->execute(scenario, &words);
	if (words.wrong == NULL && words.at < words.count)
		words.wrong = "there is more than is understood";
	if (words.wrong != NULL)
		say(scenario, 0, SAY_ALWAYS, "MISTAKE: %s", words.wrong);
}
