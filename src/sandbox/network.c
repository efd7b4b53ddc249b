/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/network.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/clone.h"
#include "sandbox/forward.h"
#include "sandbox/sandbox-internal.h"

/* ---- taking it ---- */

static void on_user_ready(void *data, const struct err *e)
{
	struct sandbox *sb = data;

	stages_next(&sb->stages, e);
}

static void on_user_exited(void *data, const struct err *e)
{
	sandbox_lose_soon(data, e);
}

static int start_user(struct sandbox *sb, struct err *e)
{
	int r;

	r = net_user_start(sb->loop, sb->config->network, TAKE_FD(sb->pooled.nic_fd), on_user_ready,
			   on_user_exited, sb, &sb->net, e);
	if (r < 0)
		return r;
	sandbox_journal_process(sb, "passt", net_user_pid(sb->net));
	return STAGE_PENDING;
}

static int journal_line(void *data, const char *line)
{
	return rundir_journal_netns(data, line);
}

/* What is left on the pod's interfaces after a crash has no owner: no journal, no network. */
static int connect_pod(struct sandbox *sb, struct err *e)
{
	int r;

	r = net_pod_journal(sb->pod, journal_line, sb->config->rundir);
	if (r < 0)
		return err_errno(e, r, "cannot write the journal in %s", sb->config->rundir->path);
	return net_pod_connect(sb->pod, TAKE_FD(sb->pooled.nic_fd), e);
}

static int connect_network(struct sandbox *sb, struct err *e)
{
	if (sb->pod)
		return connect_pod(sb, e);
	return sb->config->network ? start_user(sb, e) : 0;
}

static void on_taken(struct sandbox *sb)
{
	struct err e = { 0 };
	int r = connect_network(sb, &e);

	if (r != STAGE_PENDING)
		stages_next(&sb->stages, r < 0 ? &e : NULL);
}

/* Return: As clone_take() */
static int take_machine(struct sandbox *sb)
{
	size_t n = sb->pod ? net_pod_config(sb->pod)->n_interfaces : 0;

	if (n > 1)
		return 0;
	if (sb->config->network)
		return clone_take(sb, TEMPLATE_NIC_USER, on_taken);
	return clone_take(sb, n ? TEMPLATE_NIC_TAP : TEMPLATE_NIC_NONE, on_taken);
}

/* A machine of the pool has its device already, so it's taken before that is connected. */
int sandbox_start_network(void *obj, struct err *e)
{
	struct sandbox *sb = obj;
	int r = 0;

	if (sb->config->pod_network)
		r = net_pod_open(sb->config->pod_network, &sb->pod, e);
	if (r == 0)
		r = take_machine(sb);
	return r == 0 ? connect_network(sb, e) : r;
}

void sandbox_stop_network(void *obj)
{
	struct sandbox *sb = obj;

	clone_untake(sb);
	net_user_free(TAKE_PTR(sb->net));
	net_pod_free(TAKE_PTR(sb->pod));
}

const struct net_config *sandbox_network(const struct sandbox *sb)
{
	if (sb->pod)
		return net_pod_config(sb->pod);
	return sb->net ? net_user_config(sb->net) : NULL;
}

int sandbox_add_nics(struct sandbox *sb, struct vmm_config *config)
{
	const struct net_config *net = sandbox_network(sb);
	int fd = sb->net ? net_user_fd(sb->net) : -EBADF;

	static_assert((int)VMM_MAX_NICS >= (int)NET_MAX_INTERFACES, "room for all interfaces");
	config->n_nics = net ? net->n_interfaces : 0;
	config->netns_fd = sb->pod ? net_pod_netns(sb->pod) : 0;
	for (size_t i = 0; i < config->n_nics; i++) {
		config->nics[i].fd = sb->pod ? net_pod_tap(sb->pod, i) : fd;
		config->nics[i].tap = sb->pod != NULL;
		memcpy(config->nics[i].mac, net->interfaces[i].mac, sizeof(config->nics[i].mac));
	}
	return fd;
}

/* ---- telling the guest ---- */

static void fill_interface(struct network_message *m, size_t i, const struct net_interface *from)
{
	Podvm__Agent__V1__Interface *to = &m->interfaces[i];

	podvm__agent__v1__interface__init(to);
	to->mac = (char *)from->mac;
	to->name = (char *)from->name;
	to->mtu = from->mtu;
	to->no_prefix_routes = from->no_prefix_routes;
	to->accept_ra = from->accept_ra;
	to->no_ipv6 = from->no_ipv6;
	for (size_t a = 0; a < from->n_addresses; a++)
		m->addresses[i][a] = (char *)from->addresses[a];
	to->addresses = m->addresses[i];
	to->n_addresses = from->n_addresses;
	m->interface_pointers[i] = to;
}

static void fill_route(struct network_message *m, size_t i, const struct net_route *from)
{
	Podvm__Agent__V1__Route *to = &m->routes[i];

	podvm__agent__v1__route__init(to);
	to->destination = (char *)from->destination;
	to->gateway = (char *)from->gateway;
	to->device = (char *)from->device;
	to->source = (char *)from->source;
	to->mtu = from->mtu;
	to->advmss = from->advmss;
	to->type = from->type;
	to->onlink = from->onlink;
	to->scope = from->scope;
	to->metric = from->metric;
	m->route_pointers[i] = to;
}

static void fill_neighbor(struct network_message *m, size_t i, const struct net_neighbor *from)
{
	Podvm__Agent__V1__Neighbor *to = &m->neighbors[i];

	podvm__agent__v1__neighbor__init(to);
	to->address = (char *)from->address;
	to->mac = (char *)from->mac;
	to->device = (char *)from->device;
	m->neighbor_pointers[i] = to;
}

void network_message_fill(struct network_message *m, const struct net_config *config,
			  Podvm__Agent__V1__ConfigureSandboxRequest *req)
{
	for (size_t i = 0; i < config->n_interfaces; i++)
		fill_interface(m, i, &config->interfaces[i]);
	for (size_t i = 0; i < config->n_routes; i++)
		fill_route(m, i, &config->routes[i]);
	for (size_t i = 0; i < config->n_neighbors; i++)
		fill_neighbor(m, i, &config->neighbors[i]);
	req->interfaces = m->interface_pointers;
	req->n_interfaces = config->n_interfaces;
	req->routes = m->route_pointers;
	req->n_routes = config->n_routes;
	req->neighbors = m->neighbor_pointers;
	req->n_neighbors = config->n_neighbors;
}

/* ---- port-forward ---- */

/* A pod is of use without it (a kernel without BPF), so a failure is only said. */
int sandbox_start_forward(void *obj, struct err *e)
{
	struct sandbox *sb = obj;
	struct err why = { 0 };
	char text[256];
	int fd;
	int r;

	if (!sb->pod)
		return 0;
	fd = r = net_pod_listener(sb->pod, &why);
	if (fd >= 0)
		r = forward_new(sb->loop, sb->agent, fd, &sb->forward);
	if (r < 0)
		log_warn("port-forward is not possible", "sandbox=%s reason=%s",
			 sb->config->rundir->id,
			 log_quote(text, sizeof(text), *why.msg ? why.msg : strerror(-r)));
	return 0;
}

void sandbox_stop_forward(void *obj)
{
	struct sandbox *sb = obj;

	forward_free(TAKE_PTR(sb->forward));
}
