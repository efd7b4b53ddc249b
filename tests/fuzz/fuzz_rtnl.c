/* SPDX-License-Identifier: Apache-2.0 */
/* Dumps of rtnetlink(7), and what a guest would be told of them. */
#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>

#include "base/str.h"
#include "net/pod_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The number of the request that the dumps of the corpus answer. */
#define SEQ 1

static void check_address(const char *text)
{
	uint8_t bytes[16];

	if (inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, bytes) != 1)
		abort();
}

/* Everything that the guest's agent gets is well-formed. */
static void check_config(const struct net_config *c)
{
	for (size_t i = 0; i < c->n_interfaces; i++)
		if (!*c->interfaces[i].name || strlen(c->interfaces[i].mac) != 17 ||
		    c->interfaces[i].n_addresses > NET_MAX_ADDRESSES)
			abort();
	for (size_t i = 0; i < c->n_routes; i++) {
		if (!strchr(c->routes[i].destination, '/') ||
		    !*c->routes[i].device != (c->routes[i].type != RTN_UNICAST))
			abort();
		if (*c->routes[i].gateway)
			check_address(c->routes[i].gateway);
	}
	for (size_t i = 0; i < c->n_neighbors; i++)
		check_address(c->neighbors[i].address);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) struct net_model *model = calloc(1, sizeof(*model));
	_cleanup_(freep) struct net_config *config = calloc(1, sizeof(*config));
	_cleanup_(freep) char *copy = malloc(size + 1); /* aligned, and with an end */
	int links[NET_MAX_INTERFACES];
	struct err e = { 0 };

	if (!model || !config || !copy)
		return 0;
	if (size > 0)
		memcpy(copy, data, size);
	if (net_rtnl_parse(copy, size, SEQ, model) < 0)
		return 0;
	if (net_pod_plan(model, config, links, &e) == 0)
		check_config(config);
	else if (!*e.msg)
		abort();
	return 0;
}
