package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
)

// maxOrders bounds what callers may make the shop remember.
const maxOrders = 10_000

// An order is what the API shows.
type order struct {
	ID    int    `json:"id"`
	Item  string `json:"item"`
	Count int    `json:"count"`
}

// shop is the API. It is safe for concurrent use.
type shop struct {
	*http.ServeMux
	mu     sync.Mutex
	orders []order // guarded by mu; an order's ID is its index plus one
}

func newShop() *shop {
	s := &shop{ServeMux: http.NewServeMux()}
	s.orders = []order{{1, "shackle", 12}, {2, "cleat", 4}, {3, "bollard", 1}}
	s.HandleFunc("GET /v1/orders", s.list)
	s.HandleFunc("GET /v1/orders/{id}", s.show)
	s.HandleFunc("POST /v1/orders", s.add)
	s.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	// No caller through Fairlead ever sees this: the agent's own rules leave it out.
	s.HandleFunc("GET /admin/secret", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "the key is under the mat")
	})
	return s
}

func (s *shop) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer(w, http.StatusOK, s.orders)
}

func (s *shop) show(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || id < 1 || id > len(s.orders) {
		answer(w, http.StatusNotFound, "no such order")
		return
	}
	answer(w, http.StatusOK, s.orders[id-1])
}

func (s *shop) add(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&o); err != nil || o.Item == "" || o.Count < 1 {
		answer(w, http.StatusBadRequest, `expected {"item": "…", "count": 1 or more}`)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orders) == maxOrders {
		answer(w, http.StatusInsufficientStorage, "the shop takes no more orders")
		return
	}
	o.ID = len(s.orders) + 1
	s.orders = append(s.orders, o)
	w.Header().Set("Location", "/v1/orders/"+strconv.Itoa(o.ID))
	answer(w, http.StatusCreated, o)
}

// answer writes v as JSON. A caller that has gone away is no fault of ours.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
