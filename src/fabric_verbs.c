/* fabric_verbs.c - see fabric_verbs.h. */
#include "config.h"

#include "fabric_verbs.h"

#include <stdio.h>

#ifdef HAVE_VERBS
#include "log.h"
#include "mu_verbs.h"

static void log_line(void *ctx, const char *line)
{
	(void)ctx;
	mp_warn("fabric: %s", line);
}

static struct mu_verbs_options options_of(const struct conf *conf)
{
	struct mu_verbs_options options;

	mu_verbs_options_init(&options);
	options.device = conf->verbs_device;
	if (conf->verbs_port != CONF_AUTO)
		options.port = conf->verbs_port;
	if (conf->verbs_gid_index != CONF_AUTO)
		options.gid_index = (int)conf->verbs_gid_index;
	options.service_level = conf->verbs_service_level;
	options.traffic_class = conf->verbs_traffic_class;
	options.pkey_index = conf->verbs_pkey_index;
	options.barrier = conf->verbs_barrier == CONF_BARRIER_NONE ? MU_VERBS_BARRIER_NONE
								   : MU_VERBS_BARRIER_QUEUE_PAIR;
	if (conf->verbs_timeout != CONF_AUTO)
		options.transport_timeout = conf->verbs_timeout;
	if (conf->verbs_retries != CONF_AUTO)
		options.transport_retries = (int)conf->verbs_retries;
	options.say = log_line;
	return options;
}

bool fabric_verbs_usable(const struct conf *conf, char *why, size_t why_bytes)
{
	const struct mu_verbs_options options = options_of(conf);

	return mu_verbs_is_usable(&options, why, why_bytes);
}

int fabric_verbs_open(struct mu_fabric **out, const struct conf *conf,
		      const struct mu_fabric_config *config, struct mu_peering *peering, char *err,
		      size_t err_bytes)
{
	const struct mu_verbs_options options = options_of(conf);

	if (mu_fabric_verbs_open(out, config, &options, conf->memory_dir, peering, err,
				 err_bytes) != 0)
		return -1;
	mp_info("fabric: verbs: %s", mu_verbs_describe(*out));
	if (conf->verbs_barrier == CONF_BARRIER_NONE)
		mp_warn("fabric: verbs: barrier = none: a deposed leader's last write may land "
			"after another leads");
	return 0;
}

int fabric_verbs_list(void)
{
	struct mu_verbs_options options;

	mu_verbs_options_init(&options);
	return mu_verbs_list(stdout, &options);
}

#else
bool fabric_verbs_usable(const struct conf *conf, char *why, size_t why_bytes)
{
	(void)conf;
	snprintf(why, why_bytes, "this build has no verbs (configure --with-verbs)");
	return false;
}

int fabric_verbs_open(struct mu_fabric **out, const struct conf *conf,
		      const struct mu_fabric_config *config, struct mu_peering *peering, char *err,
		      size_t err_bytes)
{
	(void)out;
	(void)config;
	(void)peering;
	fabric_verbs_usable(conf, err, err_bytes);
	return -1;
}

int fabric_verbs_list(void)
{
	return -1;
}
#endif
