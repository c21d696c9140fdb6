// Command certs makes a cluster's certificate authorities, certificates and keys from a list on standard input.
//
// Python's standard library can't make certificates and a bare machine may have no openssl, but there always is a Go
// toolchain, since everything else is built with it. One process, one pass, a few milliseconds.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// request is one certificate; IssuedBy names an earlier authority, and an empty one makes a self-signed authority.
type request struct {
	Name         string   `json:"name"`
	CommonName   string   `json:"common_name"`
	Organization []string `json:"organization"`
	IssuedBy     string   `json:"issued_by"`
	Server       bool     `json:"server"`
	Client       bool     `json:"client"`
	DNSNames     []string `json:"dns_names"`
	Addresses    []string `json:"addresses"`
}

// order is everything to write into one directory: NAME.crt and NAME.key, and for key pairs NAME.key and NAME.pub.
type order struct {
	Directory    string    `json:"directory"`
	Certificates []request `json:"certificates"`
	KeyPairs     []string  `json:"key_pairs"`
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "certs:", err)
		os.Exit(1)
	}
}

func run() error {
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	var wanted order
	if err := decoder.Decode(&wanted); err != nil {
		return err
	}
	if err := os.MkdirAll(wanted.Directory, 0o700); err != nil {
		return err
	}
	authorities := map[string]authority{}
	for _, each := range wanted.Certificates {
		if err := issue(wanted.Directory, each, authorities); err != nil {
			return fmt.Errorf("%s: %w", each.Name, err)
		}
	}
	for _, name := range wanted.KeyPairs {
		if err := writeKeyPair(wanted.Directory, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func issue(directory string, wanted request, authorities map[string]authority) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: wanted.CommonName, Organization: wanted.Organization},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(5, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		BasicConstraintsValid: true,
		DNSNames:              wanted.DNSNames,
	}
	for _, text := range wanted.Addresses {
		address := net.ParseIP(text)
		if address == nil {
			return fmt.Errorf("%q is not an IP address", text)
		}
		template.IPAddresses = append(template.IPAddresses, address)
	}
	if wanted.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if wanted.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	parent, signer := template, key
	if wanted.IssuedBy == "" {
		template.IsCA = true
		template.KeyUsage |= x509.KeyUsageCertSign
	} else {
		issuer, known := authorities[wanted.IssuedBy]
		if !known {
			return fmt.Errorf("no earlier authority is named %q", wanted.IssuedBy)
		}
		parent, signer = issuer.certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if template.IsCA {
		authorities[wanted.Name] = authority{certificate, key}
	}
	if err := writePEM(filepath.Join(directory, wanted.Name+".crt"), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	return writeKey(filepath.Join(directory, wanted.Name+".key"), key)
}

func writeKeyPair(directory, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(filepath.Join(directory, name+".key"), key); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(directory, name+".pub"), "PUBLIC KEY", der, 0o644)
}

func writeKey(path string, private *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der, 0o600)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
