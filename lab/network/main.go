// Command lab-network is the lab's pod network: on one layer-2 bridge it is enough that each node
// gives its pods addresses of its own podCIDR, and has a route to every other node's.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	conf    = "/host/etc/cni/net.d/10-lab.conflist"
	// Ours among the kernel's routes, so that we remove none of anybody else's.
	protocol = 77
	period   = 5 * time.Second
)

type node struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		PodCIDR string `json:"podCIDR"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"status"`
}

func (n node) address() net.IP {
	for _, a := range n.Status.Addresses {
		if a.Type == "InternalIP" {
			return net.ParseIP(a.Address)
		}
	}
	return nil
}

func client() (*http.Client, error) {
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("the service account's CA cannot be read")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}, nil
}

func nodes(ctx context.Context, c *http.Client) ([]node, error) {
	// Read anew each time: the kubelet renews it.
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return nil, err
	}
	api := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	// From the API server's own memory: without this each asks etcd, which is busy enough here.
	url := "https://" + api + "/api/v1/nodes?resourceVersion=0"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	answer, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the API answers %s", answer.Status)
	}
	var list struct {
		Items []node `json:"items"`
	}
	return list.Items, json.NewDecoder(answer.Body).Decode(&list)
}

// writeConf puts the CNI configuration in place, whole, if it is not there as it should be.
func writeConf(podCIDR string) error {
	text, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0",
		"name":       "lab",
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true,
				"ipam": map[string]any{
					"type":   "host-local",
					"ranges": [][]map[string]string{{{"subnet": podCIDR}}},
				},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(conf); err == nil && string(old) == string(text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(conf), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(conf+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(conf+".new", conf)
}

func route(all []node, own string) error {
	wanted := map[string]net.IP{}
	for _, n := range all {
		if n.Metadata.Name != own && n.Spec.PodCIDR != "" && n.address() != nil {
			wanted[n.Spec.PodCIDR] = n.address()
		}
	}
	there, err := netlink.RouteListFiltered(
		netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return err
	}
	for _, r := range there {
		if r.Dst == nil {
			continue
		}
		if gateway, ok := wanted[r.Dst.String()]; ok && gateway.Equal(r.Gw) {
			delete(wanted, r.Dst.String())
		} else if !ok {
			if err := netlink.RouteDel(&r); err != nil {
				return err
			}
		}
	}
	for cidr, gateway := range wanted {
		_, to, err := net.ParseCIDR(cidr)
		if err != nil {
			return err
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: to, Gw: gateway, Protocol: protocol}); err != nil {
			return err
		}
		log.Printf("route to %s by %s", cidr, gateway)
	}
	return nil
}

func step(ctx context.Context, c *http.Client, own string) error {
	all, err := nodes(ctx, c)
	if err != nil {
		return err
	}
	for _, n := range all {
		if n.Metadata.Name == own && n.Spec.PodCIDR != "" {
			if err := writeConf(n.Spec.PodCIDR); err != nil {
				return err
			}
		}
	}
	return route(all, own)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	c, err := client()
	if err != nil {
		log.Fatal(err)
	}
	for {
		wait := period
		if err := step(ctx, c, os.Getenv("NODE_NAME")); err != nil {
			log.Print(err)
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
