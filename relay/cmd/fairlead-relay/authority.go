package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/certs/enrolled"
	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/relay"
)

// authorityCommands are for the authority's own user, who owns its folder. None needs a running relay; serve alone runs on.
type authorityCommands struct {
	Init   authorityInit   `cmd:"" help:"Make an authority for one trust domain: an offline root and an issuing key."`
	Serve  authorityServe  `cmd:"" help:"Answer relays on a socket until SIGTERM."`
	Token  authorityToken  `cmd:"" help:"Print a token that enrols one agent or relay, once."`
	Enroll authorityEnroll `cmd:"" help:"Use a token up for a relay's identity, which the running relay then renews."`
	Ban    authorityBan    `cmd:"" help:"Ban a SPIFFE ID or serial number: its links end within seconds."`
	Unban  authorityUnban  `cmd:"" help:"Lift a ban."`
	Bans   authorityBans   `cmd:"" help:"List the bans."`
	Bundle authorityBundle `cmd:"" help:"Print the trust domain's bundle."`
	Issuer authorityIssuer `cmd:"" help:"Replace the issuing key; the root's key is expected in the folder."`
	Root   struct {
		List     rootList     `cmd:"" help:"Show the roots."`
		Prepare  rootPrepare  `cmd:"" help:"Add a next root to the bundle."`
		Activate rootActivate `cmd:"" help:"Issue under the next root from now on."`
		Retire   rootRetire   `cmd:"" help:"Take old roots out of the bundle."`
	} `cmd:"" help:"Turn the root over: prepare, activate, retire."`
}

// authorityFolder is the flag of commands that work on the folder.
type authorityFolder struct {
	Dir string `type:"path" default:"/var/lib/fairlead-authority" help:"The authority's folder." placeholder:"DIR"`
}

// passphrase is the flag of commands that open or make keys.
type passphrase struct {
	PassphraseFile string `type:"path" help:"File with the passphrase that encrypts the keys." placeholder:"FILE"`
}

func open(dir authorityFolder, p passphrase) (*authority.Folder, error) {
	if p.PassphraseFile == "" {
		return authority.NewFolder(dir.Dir, nil), nil
	}
	phrase, err := authority.ReadPassphrase(p.PassphraseFile)
	return authority.NewFolder(dir.Dir, phrase), err
}

type authorityInit struct {
	authorityFolder
	passphrase
	TrustDomain string        `required:"" help:"The trust domain, such as dc1.example." placeholder:"NAME"`
	SVIDLife    time.Duration `name:"svid-life" default:"24h" help:"How long SVIDs live; they are renewed at half of it."`
	RefreshHint time.Duration `default:"5m" help:"How often others fetch the bundle."`
}

func (c *authorityInit) Run(s streams) error {
	td, err := certs.ParseTrustDomain(c.TrustDomain)
	if err != nil {
		return err
	}
	if c.SVIDLife < time.Second || c.RefreshHint < time.Second {
		return errors.New("expected svid-life and refresh-hint of a second or more")
	}
	f, err := open(c.authorityFolder, c.passphrase)
	if err != nil {
		return err
	}
	if err := f.Init(authority.Options{TrustDomain: td, SVIDLife: c.SVIDLife, RefreshHint: c.RefreshHint}); err != nil {
		return err
	}
	roots, err := f.Roots()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "authority of %s made in %s\nmove the root's key offline, it is needed again for `authority issuer` and a new root:\n  %s\n",
		td, c.Dir, roots[0].Key)
	return nil
}

type authorityServe struct {
	authorityFolder
	passphrase
	logging
	Socket string `type:"path" default:"/run/fairlead-authority/authority.sock" help:"Unix socket, for the user's group."`
}

func (c *authorityServe) Run(ctx context.Context, s streams) error {
	log, err := newLogger(s.err, c.LogFormat, c.LogLevel)
	if err != nil {
		return err
	}
	f, err := open(c.authorityFolder, c.passphrase)
	if err != nil {
		return err
	}
	a, err := authority.Open(f, log)
	if err != nil {
		return err
	}
	ln, err := authority.Listen(ctx, c.Socket)
	if err != nil {
		return err
	}
	log.Info("authority starts", "dir", c.Dir, "socket", c.Socket, "version", version)
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		certs.WatchExpiry(watching, a, log)
	}()
	err = a.Serve(ctx, ln)
	stop()
	<-watched
	log.Info("authority stopped")
	return err
}

type authorityToken struct {
	authorityFolder
	Agent string        `help:"Name of an agent: spiffe://<trust domain>/agent/<name>." placeholder:"NAME" xor:"whom" required:""`
	Relay string        `help:"Name of a relay: spiffe://<trust domain>/relay/<name>." placeholder:"NAME" xor:"whom" required:""`
	ID    string        `name:"id" help:"Any SPIFFE ID of the trust domain." placeholder:"ID" xor:"whom" required:""`
	DNS   []string      `name:"dns" help:"DNS names of the certificate, for a relay that callers verify by name." placeholder:"NAME"`
	TTL   time.Duration `name:"ttl" default:"1h" help:"How long the token may be used."`
}

func (c *authorityToken) Run(s streams) error {
	f := authority.NewFolder(c.Dir, nil)
	td, err := f.TrustDomain()
	if err != nil {
		return err
	}
	text := c.ID
	switch {
	case c.Agent != "":
		text = td.IDString() + "/agent/" + c.Agent
	case c.Relay != "":
		text = td.IDString() + "/relay/" + c.Relay
	}
	id, err := certs.ParseID(text)
	if err != nil {
		return err
	}
	t, err := f.NewToken(id, c.DNS, c.TTL)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, t.Text())
	fmt.Fprintf(s.err, "%s, for %s, good once within %s; it is a secret\n", t, t.ID, c.TTL)
	return nil
}

type authorityEnroll struct {
	Socket    string `type:"path" help:"The authority's socket." xor:"way" required:"" placeholder:"SOCKET"`
	Relay     string `help:"Another relay, host:port, that has the authority behind it." xor:"way" required:"" placeholder:"HOST:PORT"`
	Dir       string `type:"path" required:"" help:"Folder for the identity: the relay's identity.enrolled." placeholder:"DIR"`
	TokenFile string `required:"" help:"File with the token; - is standard input." placeholder:"FILE"`
}

func (c *authorityEnroll) Run(ctx context.Context, s streams) error {
	text, err := readToken(c.TokenFile)
	if err != nil {
		return err
	}
	token, err := authority.ParseToken(string(text))
	if err != nil {
		return err
	}
	var issued *authority.Issued
	if c.Socket != "" {
		client := authority.NewClient(c.Socket)
		defer client.Close()
		issued, err = authority.Bootstrap(ctx, client.Ask, token, nil)
	} else {
		issued, err = relay.Enroll(ctx, c.Relay, token)
	}
	if err != nil {
		return err
	}
	if err := enrolled.Write(c.Dir, issued); err != nil {
		return fmt.Errorf("the identity was issued and could not be written, which takes another token: %w", err)
	}
	fmt.Fprintf(s.out, "enrolled as %s, until %s, in %s; the relay renews it while it runs\n", token.ID,
		issued.Certificate.Leaf.NotAfter.UTC().Format(time.RFC3339), c.Dir)
	return nil
}

// maxToken is in bytes.
const maxToken = 8 << 10

func readToken(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxToken))
	}
	return secretfile.Read(path, maxToken)
}

type authorityBan struct {
	authorityFolder
	Target string `arg:"" help:"A SPIFFE ID, or the serial number of an SVID: then all that was renewed from it, too."`
	Reason string `help:"Why, for people."`
}

func (c *authorityBan) Run(s streams) error {
	b, err := authority.NewFolder(c.Dir, nil).Ban(c.Target, c.Reason)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s is banned since %s\n", b.Target, b.Since.Format(time.RFC3339))
	return nil
}

type authorityUnban struct {
	authorityFolder
	Target string `arg:"" help:"What was banned."`
}

func (c *authorityUnban) Run(s streams) error {
	if err := authority.NewFolder(c.Dir, nil).Unban(c.Target); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "the ban is lifted")
	return nil
}

type authorityBans struct {
	authorityFolder
	JSON bool `help:"Print JSON."`
}

func (c *authorityBans) Run(s streams) error {
	bans, err := authority.NewFolder(c.Dir, nil).Bans()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s, bans)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BANNED\tSINCE\tREASON")
	for _, b := range bans {
		fmt.Fprintf(w, "%s\t%s\t%s\n", b.Target, b.Since.Format(time.RFC3339), b.Reason)
	}
	return w.Flush()
}

type authorityBundle struct {
	authorityFolder
	PEM bool `name:"pem" help:"CA certificates in PEM in place of SPIFFE's format."`
}

func (c *authorityBundle) Run(s streams) error {
	text, err := authority.NewFolder(c.Dir, nil).Bundle(c.PEM)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, strings.TrimSpace(string(text)))
	return nil
}

type authorityIssuer struct {
	authorityFolder
	passphrase
}

func (c *authorityIssuer) Run(s streams) error {
	return change(s, c.authorityFolder, c.passphrase, (*authority.Folder).NewIssuer, "SVIDs are issued by a new key")
}

type rootList struct{ authorityFolder }

func (c *rootList) Run(s streams) error {
	roots, err := authority.NewFolder(c.Dir, nil).Roots()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tSINCE\tNOT AFTER\tKEY\tFINGERPRINT")
	for _, r := range roots {
		key := "offline"
		if r.KeyHere {
			key = "here"
		}
		fmt.Fprintln(w, strings.Join([]string{string(r.State), r.Since.Format(time.RFC3339), r.NotAfter.UTC().Format(time.RFC3339), key, r.Fingerprint}, "\t"))
	}
	return w.Flush()
}

type rootPrepare struct {
	authorityFolder
	passphrase
}

func (c *rootPrepare) Run(s streams) error {
	return change(s, c.authorityFolder, c.passphrase, (*authority.Folder).Prepare, "the next root is in the bundle; activate it once everybody has fetched that")
}

type rootActivate struct {
	authorityFolder
	passphrase
	Force bool `help:"Even though some may not know the next root yet."`
}

func (c *rootActivate) Run(s streams) error {
	return change(s, c.authorityFolder, c.passphrase, func(f *authority.Folder) error { return f.Activate(c.Force) },
		"SVIDs are issued under the next root; retire the old one once all have been renewed, and move the root's key offline")
}

type rootRetire struct {
	authorityFolder
	Force bool `help:"Even though SVIDs under an old root may live."`
}

func (c *rootRetire) Run(s streams) error {
	return change(s, c.authorityFolder, passphrase{}, func(f *authority.Folder) error { return f.Retire(c.Force) }, "old roots are out of the bundle")
}

func change(s streams, dir authorityFolder, p passphrase, do func(*authority.Folder) error, done string) error {
	f, err := open(dir, p)
	if err != nil {
		return err
	}
	if err := do(f); err != nil {
		return err
	}
	fmt.Fprintln(s.out, done)
	return nil
}
