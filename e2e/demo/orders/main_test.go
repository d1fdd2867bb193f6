package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOrdersCanBeListedShownAndAdded(t *testing.T) {
	var out bytes.Buffer
	api := printed(&out, newShop())
	for _, call := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"GET", "/v1/orders", "", 200, `"item":"cleat"`},
		{"GET", "/v1/orders/1", "", 200, `{"id":1,"item":"shackle","count":12}`},
		{"GET", "/v1/orders/9", "", 404, `no such order`},
		{"GET", "/v1/orders/x", "", 404, `no such order`},
		{"POST", "/v1/orders", `{"item":"rope","count":2}`, 201, `"id":4`},
		{"POST", "/v1/orders", `{"item":"rope"}`, 400, `expected`},
		{"GET", "/v1/orders/4", "", 200, `"rope"`},
		{"DELETE", "/v1/orders/4", "", 405, ``},
		{"GET", "/healthz", "", 200, `ok`},
		{"GET", "/admin/secret", "", 200, `mat`},
	} {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequest(call.method, call.path, strings.NewReader(call.body)))
		if w.Code != call.status || !strings.Contains(w.Body.String(), call.answer) {
			t.Errorf("%s %s: got %d %s, want %d with %s", call.method, call.path, w.Code, w.Body, call.status, call.answer)
		}
	}
	if lines := strings.Count(out.String(), "\n"); lines != 10 {
		t.Errorf("got %d lines printed for 10 calls:\n%s", lines, &out)
	}
}

func TestPrintedLineHoldsNoToken(t *testing.T) {
	var out bytes.Buffer
	r := httptest.NewRequest(http.MethodGet, "/v1/orders", nil)
	r.Header.Set("Authorization", "Bearer canary")
	r.Header.Set("Fairlead-Caller", "spiffe://cloud.example/api/billing")
	printed(&out, newShop()).ServeHTTP(httptest.NewRecorder(), r)
	if got, want := out.String(), "GET \"/v1/orders\" 200 caller=\"spiffe://cloud.example/api/billing\"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
